"""A folder that one process at a time works on, mostly in the background: start it, ask for it, stop it.

The process holds `owner.lock` as long as it lives; the file says which it is.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nemo_runspec.errors import RequirementError

LOCK_NAME = "owner.lock"
LOOKS = 5


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that works on a folder."""

    pid: int
    host: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold the folder for the block.

    Raises:
        RequirementError: another process holds it.
    """
    with (folder / LOCK_NAME).open("a+b") as lock:
        if not _try_lock(lock):
            raise RequirementError(f"{folder}: {_read(lock) or 'a process'} works on it; stop that first")
        lock.truncate(0)
        lock.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        lock.flush()
        yield


def owner(folder: Path) -> Owner | None:
    """Who holds the folder; None if nobody does."""
    try:
        with (folder / LOCK_NAME).open("rb") as lock:
            for _ in range(LOOKS):
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    if found := _read(lock):
                        return found
                    time.sleep(0.05)  # it has not said yet who it is
                else:
                    break
    except FileNotFoundError:
        pass
    return None


def start_in_background(command: Sequence[str], log_path: Path, *, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `python -m COMMAND…` without a terminal, `env` added to this one's; it outlives this and the login."""
    log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop_owner(folder: Path, *, timeout_s: float) -> bool:
    """Have the owner end and wait for that; False if there was none.

    Raises:
        RequirementError: it is on another host, of another user, or has not ended in that time.
    """
    found = owner(folder)
    if found is None:
        return False
    if found.host != socket.gethostname():
        raise RequirementError(f"{folder}: {found} works on it; stop it there")
    try:
        os.kill(found.pid, signal.SIGTERM)
    except PermissionError as error:
        raise RequirementError(f"{folder}: process {found.pid} is another user's; ask them to stop it") from error
    deadline = time.monotonic() + timeout_s
    while owner(folder) == found:
        if time.monotonic() > deadline:
            raise RequirementError(f"{folder}: process {found.pid} does not end within {timeout_s:.0f} s; see its logs")
        time.sleep(0.05)
    return True


def _try_lock(lock: BinaryIO) -> bool:
    """Take the lock unless a process holds it for longer than `owner` does to look."""
    for _ in range(LOOKS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def _read(lock: BinaryIO) -> Owner | None:
    lock.seek(0)
    try:
        return Owner(**json.loads(lock.read()))
    except (ValueError, TypeError):
        return None


def log_to_stderr() -> None:
    """What our own code logs goes to standard error, of others' only warnings."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("nemotron").setLevel(logging.INFO)
