"""The Slurm jobs of a stage that runs, as cells of a table."""

from __future__ import annotations

import time

from nemo_runspec.slurm.ledger import Attempt
from nemo_runspec.slurm.monitor import find_watched
from nemotron.flows.run_facts import how_it_ended

JOB_COLUMNS = ("job", "state", "nodes", "waited", "ran")


def job_row(attempt: Attempt) -> tuple[str, ...]:
    """The cells of a Slurm job: how it ended, else what Slurm last said."""
    if (verdict := attempt.verdict()) is not None:
        waited, ran = spell(verdict.queue_wait_s), spell(verdict.run_s)
        return (str(verdict.job_id or "none"), how_it_ended(verdict), verdict.nodes or "none", waited, ran)
    job = find_watched(attempt)
    if job is None:
        return (str(attempt.job_id() or "none"), "not known", "", "", "")
    why = f" ({job.reason})" if job.reason not in ("", "None") else ""
    waited = spell((job.started or time.time()) - job.submitted) if job.submitted else ""
    ran = spell(time.time() - job.started) if job.started else ""
    return (str(job.job_id), f"{job.state}{why}", job.nodes, waited, ran)


def spell(seconds: float) -> str:
    """`42 s`, `12 min`, `3 h 5 min`, `2 d 7 h`."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    if whole < 2 * 3600:
        return f"{whole // 60} min"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
