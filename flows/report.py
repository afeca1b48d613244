"""The report of a pipeline run: one HTML page that needs no other file, and its pictures as files beside it."""

from __future__ import annotations

import base64
import html
import importlib.util
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, lineage_text
from nemo_runspec.artifacts.lineage_drawing import Drawing, draw
from nemo_runspec.artifacts.lineage_graph import build_graph
from nemo_runspec.artifacts.lineage_png import render_png
from nemo_runspec.artifacts.lineage_svg import render_svg
from nemo_runspec.errors import RunspecError
from nemotron.flows.chain import Pipeline
from nemotron.flows.run_facts import (
    COLUMNS,
    JOB_COLUMNS,
    Curve,
    changes_of,
    find_curves,
    find_pins,
    job_rows,
    read_sample,
    result_commands,
    run_url,
    stage_row,
    web_url,
)

logger = logging.getLogger(__name__)

HTML_NAME = "report.html"
CURVES_PNG, LINEAGE_PNG, LINEAGE_SVG = PICTURES = ("curves.png", "lineage.png", "lineage.svg")

STYLE = (
    "body{font:15px system-ui;margin:2em auto;max-width:92em;padding:0 1em}"
    "td,th{padding:.3em .8em;text-align:left;border-bottom:1px solid #ddd}img{max-width:100%}dt{font-weight:600}"
    "table{margin:.5em 0 1em}figure,pre{margin:0;overflow-x:auto}"
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Where the report of a pipeline run was written, and its pictures."""

    html_path: Path
    pictures: tuple[Path, ...] = ()


def try_report(pipeline: Pipeline) -> Report | None:
    """The report; None if it cannot be written, which is told: the run has not failed for that."""
    try:
        return write_report(pipeline)
    except (OSError, RunspecError) as error:
        logger.warning("no report: %s", error)
        return None


def find_report(pipeline: Pipeline) -> Report | None:
    """The report that was written before, None if there is none."""
    folder = report_folder(pipeline)
    if not (folder / HTML_NAME).is_file():
        return None
    pictures = (folder / name for name in PICTURES)
    return Report(html_path=folder / HTML_NAME, pictures=tuple(path for path in pictures if path.is_file()))


def write_report(pipeline: Pipeline) -> Report:
    """Write `.nemotron/reports/<run>/report.html`, and `curves.png`, `lineage.svg` and `lineage.png`."""
    folder, store = report_folder(pipeline), ArtifactStore(pipeline.options.store_root)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = draw_pictures(pipeline, store)
    for name, content in pictures.items():
        (folder / name).write_bytes(content)
    (folder / HTML_NAME).write_text(render_html(pipeline, store, pictures), encoding="utf-8")
    return Report(html_path=folder / HTML_NAME, pictures=tuple(folder / name for name in pictures))


def report_folder(pipeline: Pipeline) -> Path:
    """`.nemotron/reports/<run>`."""
    return pipeline.options.home / "reports" / pipeline.options.run_id


def draw_pictures(pipeline: Pipeline, store: ArtifactStore) -> dict[str, bytes]:
    """File name → content; without Matplotlib no PNG."""
    curves, last = find_curves(pipeline.results), last_artifact(pipeline)
    lineage = draw_lineage(last, store) if last else None
    pictures: dict[str, bytes] = {}
    has_matplotlib = importlib.util.find_spec("matplotlib") is not None
    if not has_matplotlib:
        logger.warning("the report has no curves: Matplotlib is not installed; pip install 'nemotron-flows[flows]'")
    if curves and has_matplotlib:
        pictures[CURVES_PNG] = draw_curves(curves)
    if lineage and has_matplotlib:
        pictures[LINEAGE_PNG] = render_png(lineage)
    if lineage:
        pictures[LINEAGE_SVG] = render_svg(lineage).encode()
    return pictures


def draw_lineage(ref: ArtifactRef, store: ArtifactStore, *, narrow: bool = False) -> Drawing:
    """What the artifact was made from, up to the source files; led to the right, or downwards if that is narrower."""
    graph = build_graph(store, ref, store.lineage(ref))
    ways = (True, False) if narrow else (False,)
    return min((draw(graph, downwards=downwards) for downwards in ways), key=lambda drawing: drawing.width)


def last_artifact(pipeline: Pipeline) -> ArtifactRef | None:
    """What the last stage made."""
    return pipeline.results[-1].ref if pipeline.results else None


def render_html(pipeline: Pipeline, store: ArtifactStore, pictures: dict[str, bytes]) -> str:
    """The whole report as one HTML page."""
    results, last = pipeline.results, last_artifact(pipeline)
    stages = html_table(COLUMNS, [stage_row(result) for result in results])
    jobs = html_table(JOB_COLUMNS, rows) if (rows := job_rows(results)) else ""
    logs = [f"# {result.stage}\n{commands}" for result in results if (commands := result_commands(result))]
    blocks = html_blocks({**changes_of(results, store), **({"Logs": logs} if logs else {})})
    curves = base64.b64encode(pictures.get(CURVES_PNG, b"")).decode()
    image = f'<img alt="curves" src="data:image/png;base64,{curves}">' if curves else ""
    text = html.escape(lineage_text(store, last)) if last else ""
    sample = read_sample(results, store)
    said = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in (sample or {}).items())
    return (
        f"<!doctype html><meta charset=utf-8><title>nano3 run</title><style>{STYLE}</style>"
        f"<h1>nano3 {html.escape(pipeline.options.config)} – {html.escape(pipeline.options.run_id)}</h1>"
        f"{stages}{wandb_table(pipeline, store)}{jobs}{image}{blocks}"
        f"<h2>Lineage</h2><figure>{pictures.get(LINEAGE_SVG, b'').decode()}</figure><pre>{text}</pre>"
        f"{f'<h2>A sample, before and after RL</h2><dl>{said}</dl>' if said else ''}"
    )


def wandb_table(pipeline: Pipeline, store: ArtifactStore) -> str:
    """Each stage's run and artifact on W&B, as an HTML table; empty if nothing is there."""
    rows = [
        (
            html.escape(result.stage),
            html_link(pin.run_url, pin.run_path) if pin else html_link(run_url(result), None),
            html_link(pin.artifact_url, pin.qualified_name) if pin else "",
        )
        for result, pin in zip(pipeline.results, find_pins(pipeline.results, store), strict=True)
        if pin or run_url(result)
    ]
    return html_rows(("stage", "W&amp;B run", "W&amp;B artifact"), rows) if rows else ""


def html_blocks(blocks: Mapping[str, Sequence[str]]) -> str:
    """Each title with its lines below it, as they are."""
    return "".join(
        f"<h2>{html.escape(title)}</h2><pre>{html.escape(chr(10).join(lines))}</pre>" for title, lines in blocks.items()
    )


def html_link(url: str | None, text: str | None) -> str:
    """A link to a web page; the text alone where the URL is none of one."""
    shown, page = html.escape(text or url or ""), web_url(url)
    return f'<a href="{html.escape(page)}">{shown}</a>' if page else shown


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The cells as an HTML table."""
    return html_rows(columns, [[html.escape(cell) for cell in row] for row in rows])


def html_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table of cells that are HTML."""
    head = "".join(f"<th>{name}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def draw_curves(curves: Sequence[Curve]) -> bytes:
    """The curves side by side, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(curves), 3.2), layout="constrained")
    for axes, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        axes.plot(curve.steps, curve.values)
        axes.set_title(curve.stage)
        axes.set_xlabel("iteration")
        axes.set_ylabel(curve.metric)
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
