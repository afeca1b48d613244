"""Pipeline runs that can be left and taken up again: what was asked for, and the process that drives it now.

.nemotron/runs/<run id>.json    the request
.nemotron/runs/<run id>.driver  the process that drives it, or did so last
.nemotron/runs/<run id>.cancel  somebody wants it ended
.nemotron/runs/<run id>.stages  links to the work directories of its stages
.nemotron/runs/<run id>.lock    locked as long as a process drives the run
.nemotron/runs/<run id>.log     what a process in the background prints
.nemotron/runs/<run id>.code    the exit code of the process that drove it last
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from nemo_runspec.errors import ConfigError, RequirementError, did_you_mean
from nemotron.tasks.job_index import is_driven

CANCELLED = 130
"""The exit code of a run that was cancelled or interrupted."""
LOOKS = 5
LOCK_VARIABLE = "NEMOTRON_RUN_LOCK"
"""The descriptor of the lock that a process in the background has from the one that started it."""


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A pipeline run as it was asked for; one stage alone if `script` is given.

    `recipe` names the pipeline, or the stage as its command does (`nano3/sft`). Relative paths are of `directory`.
    """

    run_id: str
    config: str
    stages: tuple[str, ...]
    overrides: tuple[str, ...]
    profile: str | None
    refresh: bool
    show_logs: bool = False
    detached: bool = False
    recipe: str = "nano3"
    script: str | None = None
    passthrough: tuple[str, ...] = ()
    directory: str = field(default_factory=os.getcwd)

    def stage_name(self) -> str:
        """The name of the one stage."""
        words = self.recipe.split("/")
        return "_".join(words[1:] or words).replace("-", "_")


def save_request(home: Path, request: RunRequest) -> None:
    """Remember it, so that any later process can take it up; for this user only: an override may be a secret."""
    path = home / "runs" / f"{request.run_id}.json"
    partial = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch(mode=0o600)
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
    return read_request(path)


def read_request(path: Path) -> RunRequest:
    """The run that the file tells of.

    Raises:
        ConfigError: it is no such file.
    """
    try:
        record: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
        record |= {key: tuple(value) for key, value in record.items() if isinstance(value, list)}
        return RunRequest(**record)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not the record of a run: {error}; remove it") from error


@contextmanager
def driving(home: Path, run_id: str) -> Iterator[BinaryIO | None]:
    """Yield the run's lock: within the block this process drives the run; None if another one does already."""
    path = home / "runs" / f"{run_id}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    inherited = os.environ.pop(LOCK_VARIABLE, None)
    with open(int(inherited) if inherited else path, "ab") as lock:
        os.set_inheritable(lock.fileno(), False)
        if not try_lock(lock):
            yield None
            return
        record_driver(home, run_id)
        yield lock


def try_lock(lock: BinaryIO) -> bool:
    """Take the lock unless a process holds it for longer than `is_driven` does to look."""
    for _ in range(LOOKS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def record_driver(home: Path, run_id: str) -> None:
    """Remember that this process drives the run."""
    with contextlib.suppress(OSError):
        driver = {"pid": os.getpid(), "host": socket.gethostname(), "started": time.time()}
        (home / "runs" / f"{run_id}.driver").write_text(json.dumps(driver), encoding="utf-8")


def exit_code(home: Path, run_id: str) -> int | None:
    """With which exit code the process that drove the run last ended; None if it was killed, or goes on."""
    path = home / "runs" / f"{run_id}.code"
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def forget_end(home: Path, run_id: str) -> None:
    """The run begins again."""
    for suffix in ("code", "cancel"):
        (home / "runs" / f"{run_id}.{suffix}").unlink(missing_ok=True)


def record_end(home: Path, run_id: str, code: int) -> None:
    """Remember with which exit code the process that drives the run ends."""
    with contextlib.suppress(OSError):  # a full disk has been told of, or will be
        (home / "runs" / f"{run_id}.code").write_text(str(code), encoding="utf-8")


def start_in_background(home: Path, run_id: str, lock: BinaryIO) -> None:
    """Have a process without terminal drive the run; it outlives this one and the login, and takes over the lock."""
    with (home / "runs" / f"{run_id}.log").open("wb") as log:
        subprocess.Popen(
            [sys.executable, "-m", "nemotron.flows.command", "--attach", run_id, "--project", str(home.parent)],
            cwd=read_request(home / "runs" / f"{run_id}.json").directory,
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
            if not is_driven(home, run_id):
                sys.stdout.write(log.read())
                code = exit_code(home, run_id)
                return 1 if code is None else code
            time.sleep(0.5)
