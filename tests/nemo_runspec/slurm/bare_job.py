"""A job without recipe or submitter: what `run_slurm` does with one attempt, for tests of what lies below it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_runspec.slurm.client import SlurmClient
from nemo_runspec.slurm.hosts import LocalHost
from nemo_runspec.slurm.job_script import render_env, render_job_script, submit_options
from nemo_runspec.slurm.ledger import Attempt, Verdict, open_attempt
from nemo_runspec.slurm.monitor import Monitor, Watched
from nemo_runspec.slurm.submit import submit_once

CLIENT = SlurmClient(host=LocalHost())


@dataclass(frozen=True, kw_only=True)
class BareJob:
    """An attempt and its options."""

    attempt: Attempt
    options: list[str]

    def submit(self) -> int:
        """Submit it, once."""
        return submit_once(self.attempt, CLIENT, self.options)


def prepare(
    work_dir: Path,
    body: str,
    *,
    directives: Sequence[str] = (),
    number: int = 1,
    run_id: str = "run",
    requeue: bool = False,
    stop_before_end_s: int = 0,
    env: dict[str, str] | None = None,
) -> BareJob:
    """Write the files of an attempt that runs the shell lines `body`."""
    attempt = open_attempt(
        work_dir, number=number, stage=work_dir.name, run_id=run_id, profile="", fingerprint="f" * 64
    )
    host = CLIENT.host
    rendered = "\n".join(["#!/bin/bash", *(f"#SBATCH {line}" for line in directives)])
    host.write(attempt.folder / "env.sh", render_env(env or {}), mode=0o600)
    host.write(attempt.folder / "payload.sh", body + "\n", mode=0o644)
    host.write(attempt.folder / "job.sh", render_job_script(rendered, attempt), mode=0o644)
    options = submit_options(attempt, stop_before_end_s=stop_before_end_s, requeue=requeue)
    return BareJob(attempt=attempt, options=options)


def wait(monitor: Monitor, job: Watched, *, timeout_s: float = 120) -> Verdict:
    """The job's verdict; fails the test if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while (verdict := monitor.wait(job, timeout_s=0.2)) is None:
        assert time.monotonic() < deadline, f"no verdict on {job.attempt.intent.key}, last {job.state} {job.reason}"
    return verdict


def wait_for_state(monitor: Monitor, job: Watched, state: str, *, timeout_s: float = 60) -> None:
    """Return when the queue shows the state."""
    deadline = time.monotonic() + timeout_s
    while job.state != state:
        assert time.monotonic() < deadline, f"{job.attempt.intent.key} is {job.state} {job.reason}, not {state}"
        monitor.hurry()
        time.sleep(0.2)
