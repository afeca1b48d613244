"""Pipeline runs that can be left and taken up again: what was asked for, and the process that drives it now.

.nemotron/runs/<run id>.json    the request
.nemotron/runs/<run id>.lock    locked as long as a process drives the run
.nemotron/runs/<run id>.log     what a process in the background prints
.nemotron/runs/<run id>.code    the exit code of the process that drove it last
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from nemo_runspec.errors import ConfigError, RequirementError, did_you_mean

LOCK_VARIABLE = "NEMOTRON_RUN_LOCK"
"""The descriptor of the lock that a process in the background has from the one that started it."""


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A pipeline run as it was asked for."""

    run_id: str
    config: str
    stages: tuple[str, ...]
    overrides: tuple[str, ...]
    profile: str | None
    refresh: bool
    show_logs: bool = False
    detached: bool = False


def save_request(home: Path, request: RunRequest) -> None:
    """Remember it, so that any later process can take it up."""
    path = home / "runs" / f"{request.run_id}.json"
    partial = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(asdict(request), indent=1), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise RequirementError(f"{path}: {error.strerror or error}; nothing was started") from error


def load_request(home: Path, run_id: str) -> RunRequest:
    """The run of that id.

    Raises:
        ConfigError: there is none.
    """
    path = home / "runs" / f"{run_id}.json"
    if not path.is_file():
        known = sorted((found.stem for found in path.parent.glob("*.json")), reverse=True)
        raise ConfigError(
            f"--attach: no run {run_id!r} in {path.parent}; newest: {', '.join(known[:5]) or 'none'}."
            f"{did_you_mean(run_id, known)}"
        )
    record = json.loads(path.read_text(encoding="utf-8"))
    return RunRequest(**{**record, "stages": tuple(record["stages"]), "overrides": tuple(record["overrides"])})


@contextmanager
def driving(home: Path, run_id: str) -> Iterator[BinaryIO | None]:
    """Yield the run's lock: within the block this process drives the run; None if another one does already."""
    path = home / "runs" / f"{run_id}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    inherited = os.environ.pop(LOCK_VARIABLE, None)
    with open(int(inherited) if inherited else path, "ab") as lock:
        os.set_inheritable(lock.fileno(), False)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield lock


def record_end(home: Path, run_id: str, code: int) -> None:
    """Remember with which exit code the process that drives the run ends."""
    with contextlib.suppress(OSError):  # a full disk has been told of, or will be
        (home / "runs" / f"{run_id}.code").write_text(str(code), encoding="utf-8")


def start_in_background(home: Path, run_id: str, lock: BinaryIO) -> None:
    """Have a process without terminal drive the run; it outlives this one and the login, and takes over the lock."""
    with (home / "runs" / f"{run_id}.log").open("wb") as log:
        subprocess.Popen(
            [sys.executable, "-m", "nemotron.flows.command", "--attach", run_id],
            cwd=home.parent,
            env={**os.environ, LOCK_VARIABLE: str(lock.fileno())},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock.fileno(),),  # flock(2): held until the last descriptor of this open file is closed
        )


def follow(home: Path, run_id: str) -> int:
    """Show what the process in the background prints, until it ends; its exit code, 1 if it was killed."""
    runs = home / "runs"
    log_path = runs / f"{run_id}.log"
    log_path.touch()
    with log_path.open(encoding="utf-8", errors="replace") as log:
        while True:
            sys.stdout.write(log.read())
            sys.stdout.flush()
            with driving(home, run_id) as lock:
                if lock is not None:
                    sys.stdout.write(log.read())
                    code = runs / f"{run_id}.code"
                    return int(code.read_text(encoding="utf-8")) if code.exists() else 1
            time.sleep(0.5)
