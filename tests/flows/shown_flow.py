"""A flow that shows a finished run, in the directory that is its argument; a second argument breaks its store first."""

import sys
from pathlib import Path

from finished_run import finished_run, mirror
from prefect import flow

from nemotron.flows.report import write_report
from nemotron.flows.ui_artifacts import show_pipeline, show_stage


@flow
def show(folder: str, break_store: bool) -> str:
    pipeline = finished_run(Path(folder))
    mirror(pipeline)
    report = write_report(pipeline)
    if break_store:
        (Path(folder) / ".nemotron" / "artifacts" / "format.json").write_text("{")
    for result in pipeline.results:
        show_stage(result, pipeline.options)
    show_pipeline(pipeline, report)
    return "well"


print(show(sys.argv[1], len(sys.argv) > 2))  # noqa: T201
