"""What a run shows of itself in Prefect's UI: a page for each stage and one for the whole run, with its lineage.

The picture is part of the page, as a data URI, so that a browser on any machine shows it. Nothing here fails a run:
what cannot be shown is warned of.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.context import FlowRunContext

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, lineage_text
from nemo_runspec.artifacts.lineage_svg import render_svg
from nemo_runspec.mirror.pins import WandbPin
from nemotron.flows.chain import Pipeline
from nemotron.flows.report import Report, draw_lineage
from nemotron.flows.run_facts import COLUMNS, JOB_COLUMNS, find_pins, job_rows, stage_row, web_url
from nemotron.tasks.stage import StageResult, StageRunner
from nemotron.tasks.stage_options import Stage, StageOptions

logger = logging.getLogger(__name__)

MAX_SVG_BYTES = 1_000_000  # of some 1,000 boxes; the page is sent to the server as a whole
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")
_NOT_IN_A_KEY = re.compile(r"[^a-z0-9]+")


def shown(run: StageRunner) -> StageRunner:
    """As `run`, and what comes of it is shown."""

    def run_and_show(stage: Stage, options: StageOptions, inputs: Mapping[str, ArtifactRef]) -> StageResult:
        result = run(stage, options, inputs)
        show_stage(result, options)
        return result

    return run_and_show


def show_stage(result: StageResult, options: StageOptions) -> None:
    """Show a stage of the flow run that goes on in this context; do nothing where there is none."""
    with _warning_only(f"stage {result.stage}") as is_flow:
        if not is_flow:
            return
        store = ArtifactStore(options.store_root)
        create_markdown_artifact(
            key=f"stage-{_key(result.stage)}",
            markdown=stage_page(result, store),
            description=f"{result.stage} of run {options.run_id}",
        )
        (pin,) = find_pins([result], store)
        if pin and (page := web_url(pin.run_url)):
            create_link_artifact(
                key=f"wandb-{_key(result.stage)}",
                link=page,
                link_text=pin.qualified_name,
                description=f"{result.stage} of run {options.run_id} on W&B",
            )


def show_pipeline(pipeline: Pipeline, report: Report | None) -> None:
    """Show the whole of the flow run that goes on in this context; do nothing where there is none."""
    run_id = pipeline.options.run_id
    with _warning_only(f"run {run_id}") as is_flow:
        if is_flow:
            page = pipeline_page(pipeline, ArtifactStore(pipeline.options.store_root), report)
            create_markdown_artifact(key="pipeline", markdown=page, description=f"Run {run_id}")


def stage_page(result: StageResult, store: ArtifactStore) -> str:
    """What a stage made, and of what, as Markdown."""
    return _page([result], store, [])


def pipeline_page(pipeline: Pipeline, store: ArtifactStore, report: Report | None) -> str:
    """Tables and lineage of a run, as Markdown."""
    return _page(pipeline.results, store, [f"Report: {_escape(str(report.html_path))}"] if report else [])


def _page(results: Sequence[StageResult], store: ArtifactStore, end: Sequence[str]) -> str:
    parts = [_stage_table(results, store), _table(JOB_COLUMNS, job_rows(results))]
    if results and (last := results[-1].ref):
        parts += [f"## Lineage of {_escape(str(last))}", _picture(last, store), _fenced(lineage_text(store, last))]
    return "\n\n".join(part for part in (*parts, *end) if part)


def _picture(ref: ArtifactRef, store: ArtifactStore) -> str:
    svg = render_svg(draw_lineage(ref, store)).encode()
    data = base64.b64encode(svg).decode()
    return f"![lineage](data:image/svg+xml;base64,{data})" if len(svg) <= MAX_SVG_BYTES else ""


def _stage_table(results: Sequence[StageResult], store: ArtifactStore) -> str:
    """The table of stages, with W&B where anything is there."""
    rows = [stage_row(result) for result in results]
    pins = find_pins(results, store)
    if not any(pins):
        return _table(COLUMNS, rows)
    return _table((*COLUMNS, "W&B"), rows, last=[_link(pin) if pin else "" for pin in pins])


def _link(pin: WandbPin) -> str:
    page = web_url(pin.artifact_url, pin.run_url)
    return f"[{_escape(pin.qualified_name)}](<{page}>)" if page else _escape(pin.qualified_name)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, last: Sequence[str] = ()) -> str:
    """A Markdown table, empty without rows; `last` has the cells of a last column, in Markdown."""
    cells = [[_escape(cell) for cell in row] for row in rows]
    for row, cell in zip(cells, last, strict=False):
        row.append(cell)
    lines = [[_escape(name) for name in columns], ["---"] * len(columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else ""


def _escape(text: str) -> str:
    """The text, shown as it is."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _fenced(text: str) -> str:
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
    return f"{fence}\n{text}\n{fence}"


def _key(name: str) -> str:
    return _NOT_IN_A_KEY.sub("-", name.lower()).strip("-") or "x"


@contextmanager
def _warning_only(what: str) -> Iterator[bool]:
    """Whether this is a flow run; what goes wrong in the block is told and goes no further."""
    try:
        yield FlowRunContext.get() is not None
    except Exception as error:  # whatever the server, the client and the store may raise
        logger.warning("%s is not shown in Prefect's UI: %s", what, error)
        logger.debug("while showing %s", what, exc_info=True)
