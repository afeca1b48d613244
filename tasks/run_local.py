"""Run a planned stage on this machine: as a process of its own, or inside this one for a debugger."""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from nemo_runspec.errors import RunspecError, StageCancelled, StageFailed
from nemo_runspec.execution import build_local_command
from nemo_runspec.jobs import local
from nemo_runspec.script import REFUSED, raised_errors
from nemo_runspec.slurm.logs import LogFollower
from nemotron.tasks.interrupts import CancelCheck, ignoring_sigterm, run_cancelled
from nemotron.tasks.progress import follow_progress, show_lines

if TYPE_CHECKING:
    from nemotron.tasks.plan import StagePlan
    from nemotron.tasks.stage_options import StageOptions

SHOWN_LINES = 15
CHECK_S = 1.0
"""How often, in seconds, a cancel is looked for while waiting."""
_SAID = re.compile(r"(?:\[\w+\]:)?error: (.*)")  # torchrun --tee puts [default0]: before what rank 0 prints


def run_process(
    plan: StagePlan,
    train_path: Path,
    env: Mapping[str, str],
    lock_fd: int,
    *,
    options: StageOptions,
    is_cancelled: CancelCheck,
) -> None:
    """Run the script to its end; on an interrupt or a cancel end its processes first. They inherit the stage's lock.

    Raises:
        StageCancelled: the run was cancelled.
        StageFailed: it exited with another code than 0; the message has its error line or the last log lines.
    """
    command = local_command(plan, options, train_path)
    profile_env = OmegaConf.select(plan.job_config, "run.env.env_vars") or {}
    extra = {"OMP_NUM_THREADS": "1", **plan.runspec.env, **{str(k): str(v) for k, v in profile_env.items()}, **env}
    log_path = plan.work_dir / "log.txt"
    begin = local.log_size(log_path)
    process = local.start(command, env=extra, log_path=log_path, inherited_fd=lock_fd)
    log = LogFollower(path=log_path, offset=begin) if options.show_logs else None
    try:
        with follow_progress(plan.stage.name, plan.work_dir / "metrics.jsonl"):
            code = wait(process, plan.stage.name, is_cancelled, log)
    except BaseException as ended_by:
        with ignoring_sigterm():
            local.terminate(process)
            known = isinstance(ended_by, StageCancelled | KeyboardInterrupt)
            if not known and is_cancelled(now=True):  # told to end, as by SIGTERM, which is also how a cancel may come
                raise run_cancelled(plan.stage.name) from ended_by
        raise
    if code != 0:
        raise stage_failure(plan.stage.name, code, log_path, begin=begin)


def local_command(plan: StagePlan, options: StageOptions, train_path: Path) -> list[str]:
    """The argv that runs the stage's script on this machine."""
    nproc = int(OmegaConf.select(plan.job_config, "run.env.nproc_per_node") or 1)
    return build_local_command(plan.runspec, str(train_path), nproc=nproc, passthrough=options.passthrough)


def wait(process: subprocess.Popen[bytes], stage: str, is_cancelled: CancelCheck, log: LogFollower | None) -> int:
    """The process's exit code; raises StageCancelled when the run is cancelled meanwhile. Shows the log, if any."""
    code: int | None = None
    while code is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(timeout=CHECK_S)
        if log is not None:
            show_lines(stage, log.read_lines(to_end=code is not None), log.path)
        if code is None and is_cancelled():
            raise run_cancelled(stage)
    return code


def stage_failure(stage: str, code: int, log_path: Path, *, begin: int) -> StageFailed:
    """One line when the script said why (`error: …`), else the exit reason and the last log lines.

    The log of this attempt begins at the byte `begin`; before it are those of earlier ones.
    """
    if said := script_error(log_path, begin=begin):
        return StageFailed(f"{stage}: {said}", exit_code=shell_code(code))
    lines = local.tail(log_path, begin=begin)
    reason = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
    message = "\n".join([f"{stage} {reason}; log: {log_path}", *(f"    {line}" for line in lines[-SHOWN_LINES:])])
    return StageFailed(message, may_retry=True, exit_code=shell_code(code))


def shell_code(code: int) -> int:
    """The exit code as a shell tells it: 128 + N for signal N."""
    return code if code >= 0 else 128 - code


def script_error(log_path: Path, *, begin: int) -> str | None:
    """What the script said was wrong (`error: …`), None if it said nothing."""
    said = [match[1] for line in local.tail(log_path, begin=begin) if (match := _SAID.match(line))]
    return said[-1] if said else None


def run_in_process(plan: StagePlan, train_path: Path, env: Mapping[str, str]) -> None:
    """Run the script inside this process, so that `breakpoint()` in it works."""
    with _environment(env), follow_progress(plan.stage.name, plan.work_dir / "metrics.jsonl", live=False):
        argv, sys.argv = sys.argv, [str(plan.stage.script), "--config", str(train_path)]
        try:
            with raised_errors():
                runpy.run_path(str(plan.stage.script), run_name="__main__")
        except RunspecError as error:
            raise StageFailed(f"{plan.stage.name}: {error}", exit_code=REFUSED) from error
        except SystemExit as stop:
            if stop.code not in (None, 0):
                code = stop.code if isinstance(stop.code, int) else 1
                raise StageFailed(f"{plan.stage.name} exited with code {stop.code}", exit_code=code) from stop
        finally:
            sys.argv = argv


@contextmanager
def _environment(env: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(env)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
