"""End a run, follow it, or take it up again."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from nemo_runspec.errors import ConfigError, RequirementError
from nemotron.flows.command import enter, run_or_follow, set_up
from nemotron.flows.run_list import Run, StageOfRun, read_run, stages_of
from nemotron.flows.runs import CANCELLED, exit_code, record_end
from nemotron.tasks.job_index import followers, is_driven
from nemotron.tasks.reaper import cancel_run, unwanted_attempts

START_TIMEOUT_S = 60.0


def cancel_and_wait(home: Path, run: Run, *, wait_s: float) -> str:
    """Have the run ended by the process that drives it, else end its jobs here; what became of it.

    Raises:
        ConfigError: it has ended already.
        RequirementError: it had not ended after `wait_s` seconds.
    """
    if run.state in ("done", "failed", "cancelled"):
        raise ConfigError(f"run {run.run_id} has ended: {run.state}; nothing to cancel")
    (home / "runs" / f"{run.run_id}.cancel").touch()
    deadline = time.monotonic() + wait_s
    while is_driven(home, run.run_id):
        if time.monotonic() > deadline:
            raise RequirementError(
                f"run {run.run_id}: {run.driver} drives it and has not ended it within {wait_s:.0f} s; it will when it "
                f"looks next; see nemotron runs show {run.run_id}"
            )
        time.sleep(0.2)
    set_up(home)
    num_jobs = cancel_run(home, run.run_id, why="nemotron runs cancel")
    if left := unwanted_attempts(home, run.run_id):
        names = ", ".join(str(attempt.job_id() or attempt.intent.key) for attempt in left)
        raise RequirementError(
            f"run {run.run_id}: job {names} could not be ended now, see above; that it is to end is written down: "
            "python -m nemotron.tasks.reaper ends it when Slurm answers"
        )
    ended = read_run(home, run.run_id)
    if ended.state == "interrupted":
        record_end(home, run.run_id, CANCELLED)
        ended = read_run(home, run.run_id)
    jobs = f", {num_jobs} {'job' if num_jobs == 1 else 'jobs'} ended" if num_jobs else ""
    return f"run {run.run_id}: {ended.state}{jobs}"


def wait_until_started(home: Path, run_id: str, *, timeout_s: float = START_TIMEOUT_S) -> int:
    """Wait until a run in the background has its first job or process, or has ended; 0, or the code it ended with.

    What a run that failed printed goes to standard error.
    """
    log_path = home / "runs" / f"{run_id}.log"
    begun = log_path.stat().st_mtime
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        code = exit_code(home, run_id)
        if code is not None:
            if code != 0:
                sys.stderr.write(log_path.read_text(encoding="utf-8", errors="replace"))
            return code
        if any(has_started(stage, run_id, since=begun) for stage in stages_of(home, run_id)):
            return 0
        if not is_driven(home, run_id) and exit_code(home, run_id) is None:
            sys.stderr.write(log_path.read_text(encoding="utf-8", errors="replace"))
            sys.stderr.write(f"error: the process that drives run {run_id} is gone; take it up: runs attach {run_id}\n")
            return 1
        time.sleep(0.2)
    return 0


def has_started(stage: StageOfRun, run_id: str, *, since: float) -> bool:
    """Whether the stage has a job that this run waits for, or has printed something since."""
    if any(attempt.job_id() and run_id in followers(attempt) for attempt in stage.attempts):
        return True
    return any(path.stat().st_mtime >= since for path in stage.logs())


def say_left(run_id: str) -> None:
    """Give the run's id to a script, and tell a person how to come back."""
    sys.stdout.write(f"{run_id}\n")
    sys.stdout.flush()
    sys.stderr.write(f"run {run_id} goes on in the background; follow it with nemotron runs attach {run_id}\n")


def attach_run(home: Path, run: Run) -> int:
    """Follow the run to its end, or take it up if nobody drives it; its exit code.

    Raises:
        ConfigError: it has ended.
    """
    if run.exit_code is not None:
        raise ConfigError(
            f"run {run.run_id} has ended: {run.state}; see nemotron runs logs {run.run_id}, or take it up again with "
            f"nemotron runs retry {run.run_id}"
        )
    return _take_up(home, run)


def retry_run(home: Path, run: Run) -> int:
    """Take the run up again under its id; its exit code.

    Raises:
        ConfigError: a process drives it.
    """
    if run.state == "running":
        raise ConfigError(f"run {run.run_id} goes on ({run.driver}); follow it with nemotron runs attach {run.run_id}")
    return _take_up(home, run, again=True)


def _check_script(run: Run) -> None:
    script = run.request.script
    if script and not Path(script).is_file():
        raise ConfigError(f"run {run.run_id}: its script {script} is gone; put it back, or start another run")


def _take_up(home: Path, run: Run, *, again: bool = False) -> int:
    set_up(home)
    _check_script(run)
    enter(run.request)
    return run_or_follow(run.request, home, plain=False, detach=False, again=again, say=say_left)
