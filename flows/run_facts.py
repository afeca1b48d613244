"""What there is to tell of a finished run: rows for tables, curves, a sample, and where it is on W&B."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.artifacts.key_metric import key_metric
from nemo_runspec.artifacts.lineage_graph import find_wandb
from nemo_runspec.metrics_log import read_metrics
from nemo_runspec.mirror.pins import WandbPin
from nemotron.tasks.stage import StageResult

COLUMNS = ("stage", "time", "key metric", "artifact", "reused from")
JOB_COLUMNS = ("stage", "job", "ended as", "nodes", "waited", "ran", "GPU-hours")

_WEB_URL = re.compile(r"https?://[^\s<>\"]+")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric of one stage over its steps."""

    stage: str
    metric: str
    steps: Sequence[float]
    values: Sequence[float]


def stage_row(result: StageResult) -> tuple[str, ...]:
    """The cells of a stage in the summary table."""
    made_by = result.made_by if result.reused else ""
    metric = key_metric(result.ref.metadata) if result.ref else ""
    return (result.stage, f"{result.seconds:.1f} s", metric, str(result.ref or "none"), made_by)


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


def find_pins(results: Sequence[StageResult], store: ArtifactStore) -> list[WandbPin | None]:
    """Where each stage's artifact is on W&B, None where it is not."""
    return [find_wandb(store, result.ref) if result.ref else None for result in results]


def web_url(*urls: str | None) -> str | None:
    """The first that is the address of a web page and may be linked."""
    return next((url for url in urls if url and _WEB_URL.fullmatch(url)), None)


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
