"""What a run shows of itself in Prefect's UI: a page for each stage and one for the whole run, with its lineage.

Nothing here fails a run: what cannot be shown is warned of.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, lineage_text
from nemo_runspec.artifacts.lineage_svg import render_svg
from nemotron.flows.chain import Pipeline
from nemotron.flows.live_page import DOT, draw, live_page
from nemotron.flows.markdown_text import escape, fenced, link, picture, table
from nemotron.flows.report import Report, draw_lineage
from nemotron.flows.run_facts import (
    COLUMNS,
    JOB_COLUMNS,
    changes_of,
    find_pins,
    job_rows,
    result_commands,
    run_url,
    stage_row,
    web_url,
)
from nemotron.flows.ui_page import UiPage
from nemotron.tasks.live_metrics import LiveMetrics
from nemotron.tasks.stage import StageResult, StageRunner
from nemotron.tasks.stage_options import Stage, StageOptions

logger = logging.getLogger(__name__)

MAX_SVG_BYTES = 1_000_000  # of some 1,000 boxes; the page is sent to the server as a whole
_NOT_IN_A_KEY = re.compile(r"[^a-z0-9]+")


def shown(run: StageRunner) -> StageRunner:
    """As `run`, and how it goes and what comes of it is shown."""

    def run_and_show(stage: Stage, options: StageOptions, inputs: Mapping[str, ArtifactRef]) -> StageResult:
        with live_page(UiPage.of_this_run(_key("stage", stage.name)), stage.name, options):
            result = run(stage, options, inputs)
        show_stage(result, options)
        return result

    return run_and_show


def show_stage(result: StageResult, options: StageOptions) -> None:
    """Show a stage of the flow run that goes on in this context; do nothing where there is none."""
    page = UiPage.of_this_run(_key("stage", result.stage))
    if page is None:
        return
    with _warning_only(f"stage {result.stage}"):
        store = ArtifactStore(options.store_root)
        page.put(stage_page(result, store), description=_headline(result))
        (pin,) = find_pins([result], store)
        wandb = UiPage.of_this_run(_key("wandb", result.stage))
        if wandb and pin and (url := web_url(pin.run_url)):
            wandb.put(link(pin.qualified_name, url), description=f"{result.stage} on W&B")


def show_pipeline(pipeline: Pipeline, report: Report | None) -> None:
    """Show the whole of the flow run that goes on in this context; do nothing where there is none."""
    page, run_id = UiPage.of_this_run("pipeline"), pipeline.options.run_id
    if page is None:
        return
    with _warning_only(f"run {run_id}"):
        text = pipeline_page(pipeline, ArtifactStore(pipeline.options.store_root), report)
        last = [f"{result.stage}: {_headline(result)}" for result in pipeline.results[-1:]]
        page.put(text, description=DOT.join([f"{len(pipeline.results)} stages", *last]))


def stage_page(result: StageResult, store: ArtifactStore) -> str:
    """What a stage made, and of what, as Markdown."""
    metrics = LiveMetrics(path=Path(result.work_dir) / "metrics.jsonl")
    metrics.look()
    curve, url = draw(metrics), run_url(result)
    details = [
        picture(*curve) if curve else "",
        f"W&B run: {link(url, url)}" if url else "",
        fenced(commands) if (commands := result_commands(result)) else "",
    ]
    return _page([result], store, details)


def pipeline_page(pipeline: Pipeline, store: ArtifactStore, report: Report | None) -> str:
    """Tables and lineage of a run, as Markdown."""
    return _page(pipeline.results, store, [f"Report: {escape(str(report.html_path))}"] if report else [])


def _page(results: Sequence[StageResult], store: ArtifactStore, details: Sequence[str]) -> str:
    parts = [_stage_table(results, store), table(JOB_COLUMNS, job_rows(results)), *details]
    for title, lines in changes_of(results, store).items():
        parts += [f"## {escape(title)}", fenced("\n".join(lines))]
    if results and (last := results[-1].ref):
        parts += [f"## Lineage of {escape(str(last))}", _lineage(last, store), fenced(lineage_text(store, last))]
    return "\n\n".join(part for part in parts if part)


def _headline(result: StageResult) -> str:
    """What matters first: a list of pages cuts it after some 40 characters."""
    _, seconds, metric, ref, made_by = stage_row(result)
    parts = ["reused", metric, f"{ref}, made by {made_by}"] if result.reused else [f"done in {seconds}", metric, ref]
    return DOT.join(filter(None, parts))


def _lineage(ref: ArtifactRef, store: ArtifactStore) -> str:
    svg = render_svg(draw_lineage(ref, store, narrow=True))  # as the column of a page is
    return picture("lineage", svg) if len(svg.encode()) <= MAX_SVG_BYTES else ""


def _stage_table(results: Sequence[StageResult], store: ArtifactStore) -> str:
    """The table of stages; who made what is reused, and W&B, where there is any."""
    num_columns = len(COLUMNS) if any(result.reused for result in results) else len(COLUMNS) - 1
    columns, rows = COLUMNS[:num_columns], [stage_row(result)[:num_columns] for result in results]
    pins = find_pins(results, store)
    if not any(pins):
        return table(columns, rows)
    links = [link(pin.qualified_name, web_url(pin.artifact_url, pin.run_url)) if pin else "" for pin in pins]
    return table((*columns, "W&B"), rows, last=links)


def _key(*words: str) -> str:
    return "-".join(_NOT_IN_A_KEY.sub("-", word.lower()).strip("-") or "x" for word in words)


@contextmanager
def _warning_only(what: str) -> Iterator[None]:
    """What goes wrong in the block is told and goes no further."""
    try:
        yield
    except Exception as error:  # whatever the server, the client and the store may raise
        logger.warning("%s is not shown in Prefect's UI: %s", what, error)
        logger.debug("while showing %s", what, exc_info=True)
