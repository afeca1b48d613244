"""What there is to tell of a finished run: rows for tables, curves, a sample, and where it is on W&B."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.artifacts.key_metric import key_metric
from nemo_runspec.artifacts.lineage_graph import find_wandb
from nemo_runspec.mirror.metrics import read_wandb_run
from nemo_runspec.mirror.pins import WandbPin
from nemo_runspec.slurm.ledger import Attempt, Verdict, attempts
from nemotron.flows.config_changes import find_changes
from nemotron.tasks.live_metrics import LiveMetrics
from nemotron.tasks.stage import StageResult

COLUMNS = ("stage", "time", "key metric", "artifact", "reused from")
JOB_COLUMNS = ("stage", "job", "ended as", "nodes", "waited", "ran", "GPU-hours")

SACCT_FORMAT = "JobID,JobName%40,State%20,ExitCode,Elapsed,NodeList"

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
            how_it_ended(job),
            job.nodes or "none",
            f"{job.queue_wait_s:.0f} s",
            f"{job.run_s:.0f} s",
            f"{job.gpu_hours:.3f}",
        )
        for result in results
        for job in result.jobs
    ]


def how_it_ended(job: Verdict) -> str:
    """`FAILED 1:0`, and Slurm's reason if it gave one."""
    return " ".join([job.ending, *([job.exit_code] if job.exit_code not in ("", "0:0") else []), job.reason]).strip()


def log_commands(work_dir: Path, followed: Sequence[Attempt]) -> str:
    """What to paste into a shell to read a stage's logs and what Slurm knows of its jobs; empty without a log."""
    job_ids = [str(job_id) for attempt in followed if (job_id := attempt.job_id())]
    slurm = [f"sacct -j {','.join(job_ids)} --format={SACCT_FORMAT}"] if job_ids else []
    logs = [attempt.log_path for attempt in followed] or [work_dir / "log.txt"]
    return "\n".join([*slurm, *(f"tail -n 100 -F {shlex.quote(str(path))}" for path in logs if path.is_file())])


def result_commands(result: StageResult) -> str:
    """The same of a stage that has ended; empty for one that did not run."""
    work_dir, job_ids = Path(result.work_dir), {job.job_id for job in result.jobs}
    followed = [attempt for attempt in attempts(work_dir) if attempt.job_id() in job_ids]
    return "" if result.reused else log_commands(work_dir, followed)


def find_pins(results: Sequence[StageResult], store: ArtifactStore) -> list[WandbPin | None]:
    """Where each stage's artifact is on W&B, None where it is not."""
    return [find_wandb(store, result.ref) if result.ref else None for result in results]


def web_url(*urls: str | None) -> str | None:
    """The first that is the address of a web page and may be linked."""
    return next((url for url in urls if url and _WEB_URL.fullmatch(url)), None)


def run_url(result: StageResult) -> str | None:
    """The page of the stage's W&B run; None if there is none, or it is another run's that made what is reused."""
    return None if result.reused else wandb_run_url(Path(result.work_dir) / "metrics.jsonl")


def changes_of(results: Sequence[StageResult], store: ArtifactStore) -> dict[str, list[str]]:
    """Title → lines of how the settings of each stage that ran differ from those of the version before."""
    found = {}
    for result in results:
        if result.ref is None or result.reused:
            continue
        changes = find_changes(result.ref, store, Path(result.work_dir).parent)
        if changes is not None:
            found[f"Settings of {result.stage}, compared with {changes.before}"] = changes.summary()
    return found


def wandb_run_url(metrics: Path) -> str | None:
    """The page of the W&B run to which the metrics go, as soon as it is known."""
    run = read_wandb_run(metrics)
    return web_url(run.url) if run else None


def find_curves(results: Sequence[StageResult]) -> list[Curve]:
    """Loss or reward of every stage that logged it."""
    curves = []
    for result in results:
        metrics = LiveMetrics(path=Path(result.work_dir) / "metrics.jsonl")
        metrics.look()
        if found := metrics.curve():
            steps, values = zip(*found[1], strict=True)
            curves.append(Curve(stage=result.stage, metric=found[0], steps=steps, values=values))
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
