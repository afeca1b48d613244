"""What a person sees at the end: the table of stages, curves, lineage, a sample before and after RL; and the report."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, lineage_text
from nemo_runspec.metrics_log import read_metrics
from nemotron.flows.chain import Pipeline
from nemotron.tasks.stage import StageResult

# Metadata that says most about an artifact, the first that is there.
KEY_METRICS = ("valid_loss", "final_loss", "total_tokens", "total_sequences", "step")
NO_TERMINAL_WIDTH = 160


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric of one stage over its steps."""

    stage: str
    metric: str
    steps: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Where the report of a pipeline run was written."""

    html_path: Path
    png_path: Path | None


def key_metric(ref: ArtifactRef | None) -> str:
    """What says most about an artifact, e.g. `valid_loss 3.215` or `held-out reward 0.62 → 0.81`."""
    if ref is None:
        return ""
    if "heldout_after" in ref.metadata:
        return f"held-out reward {ref.metadata['heldout_before']:.2f} → {ref.metadata['heldout_after']:.2f}"
    for name in KEY_METRICS:
        value = ref.metadata.get(name)
        if isinstance(value, int | float):
            return f"{name} {value:,.3f}" if isinstance(value, float) else f"{name} {value:,}"
    return ""


def find_curves(results: Sequence[StageResult]) -> list[Curve]:
    """Loss or reward of every stage that logged it."""
    curves = []
    for result in results:
        rows = read_metrics(Path(result.work_dir) / "metrics.jsonl")
        for metric in ("reward", "loss"):
            points = [(row["step"], row[metric]) for row in rows if metric in row]
            if points:
                steps, values = zip(*points, strict=True)
                curves.append(Curve(stage=result.stage, metric=metric, steps=steps, values=values))
                break
    return curves


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


def read_sample(results: Sequence[StageResult], store: ArtifactStore) -> dict[str, str] | None:
    """A prompt with the model's answers before and after RL, if the RL model carries samples."""
    for result in reversed(results):
        if result.ref is None or "heldout_after" not in result.ref.metadata:
            continue
        path = store.materialize(result.ref) / "samples.json"
        if path.exists():
            samples: list[dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
            improved = [s for s in samples if s["after"] == s["answer"] != s["before"]]
            return (improved or samples or [None])[0]  # type: ignore[list-item]
    return None


def write_report(pipeline: Pipeline) -> Report:
    """Write `.nemotron/reports/<run>/report.html` and `curves.png`; both are self-contained."""
    options = pipeline.options
    folder = options.home / "reports" / options.run_id
    folder.mkdir(parents=True, exist_ok=True)
    store = ArtifactStore(options.store_root)
    curves = find_curves(pipeline.results)
    png = draw_curves(curves) if curves else None
    png_path = folder / "curves.png" if png else None
    if png and png_path:
        png_path.write_bytes(png)
    html_path = folder / "report.html"
    html_path.write_text(render_html(pipeline, store, png), encoding="utf-8")
    return Report(html_path=html_path, png_path=png_path)


def render_html(pipeline: Pipeline, store: ArtifactStore, png: bytes | None) -> str:
    """The whole report as one HTML page."""
    stages = html_table(COLUMNS, [stage_row(result) for result in pipeline.results])
    jobs = job_rows(pipeline.results)
    image = f'<img alt="curves" src="data:image/png;base64,{base64.b64encode(png).decode()}">' if png else ""
    last = pipeline.results[-1].ref if pipeline.results else None
    lineage = html.escape(lineage_text(store, last)) if last else ""
    sample = read_sample(pipeline.results, store)
    shown = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in (sample or {}).items())
    return (
        "<!doctype html><meta charset=utf-8><title>nano3 run</title>"
        "<style>body{font:15px system-ui;margin:2em auto;max-width:70em}td,th{padding:.3em .8em;text-align:left;"
        "border-bottom:1px solid #ddd}img{max-width:100%}dt{font-weight:600}</style>"
        f"<h1>nano3 {html.escape(pipeline.options.config)} – {html.escape(pipeline.options.run_id)}</h1>"
        f"{stages}{html_table(JOB_COLUMNS, jobs) if jobs else ''}{image}"
        f"<h2>Lineage</h2><pre>{lineage}</pre><h2>A sample, before and after RL</h2><dl>{shown}</dl>"
    )


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The cells as an HTML table."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


COLUMNS = ("stage", "time", "key metric", "artifact", "reused from")


def stage_row(result: StageResult) -> tuple[str, ...]:
    """The cells of a stage in the summary table."""
    made_by = result.made_by if result.reused else ""
    return (result.stage, f"{result.seconds:.1f} s", key_metric(result.ref), str(result.ref or "none"), made_by)


JOB_COLUMNS = ("stage", "job", "ended as", "nodes", "waited", "ran", "GPU-hours")


def job_rows(results: Sequence[StageResult]) -> list[tuple[str, ...]]:
    """The cells of each Slurm job, in order."""
    return [
        (
            result.stage,
            str(job.job_id or "none"),
            " ".join([job.ending, *([job.exit_code] if job.exit_code not in ("", "0:0") else []), job.reason]).strip(),
            job.nodes or "none",
            f"{job.queue_wait_s:.0f} s",
            f"{job.run_s:.0f} s",
            f"{job.gpu_hours:.3f}",
        )
        for result in results
        for job in result.jobs
    ]


def print_summary(pipeline: Pipeline, report: Report | None, *, title: str = "nano3") -> None:
    """Show table, lineage, sample and where the report is, on standard output."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = NO_TERMINAL_WIDTH
    table = Table(*COLUMNS, title=f"{title} {pipeline.options.config}  {pipeline.options.run_id}")
    for result in pipeline.results:
        table.add_row(*stage_row(result))
    console.print(table)
    if rows := job_rows(pipeline.results):
        jobs = Table(*JOB_COLUMNS, title=f"Slurm jobs, {sum(float(row[-1]) for row in rows):.3f} GPU-hours")
        for row in rows:
            jobs.add_row(*row)
        console.print(jobs)
    store = ArtifactStore(pipeline.options.store_root)
    if pipeline.results and (last := pipeline.results[-1].ref):
        console.print(lineage_text(store, last), markup=False)
    if sample := read_sample(pipeline.results, store):
        console.print(
            f"\nasked {sample['prompt']!r}: before RL {sample['before']!r}, after {sample['after']!r}, "
            f"wanted {sample['answer']!r}",
            markup=False,
        )
    if report is None:
        return
    console.print(f"\nreport: {report.html_path}", markup=False)
    if report.png_path:
        console.print(f"curves: {report.png_path}", markup=False)
