"""One stage as a process tree on this machine: start it, wait for it, end it, never two in one work directory.

The child inherits an exclusive lock on the work directory, so the lock lives exactly as long as any process of the
stage does, also when this process was killed. On Linux the child is told to end when this process dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

LOCK_NAME = ".lock"
GRACE_S = 20.0


@contextlib.contextmanager
def locked(work_dir: Path) -> Iterator[int]:
    """Hold the stage's lock; yields its file descriptor, to be inherited by the stage's process.

    Waits as long as another run works on the stage, and says so.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    path = work_dir / LOCK_NAME
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("another run is working on this very stage; waiting for it (who: fuser %s)", path)
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def start(
    command: Sequence[str], *, env: Mapping[str, str], log_path: Path, inherited_fd: int
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, its output appended to `log_path`; it gets the file descriptor too."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    wrapped = [sys.executable, "-m", "nemo_runspec.jobs.child", str(os.getpid()), *command]
    with log_path.open("ab") as log:
        return subprocess.Popen(
            wrapped,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(inherited_fd,),
        )


def terminate(process: subprocess.Popen[bytes], *, grace_s: float = GRACE_S) -> None:
    """SIGTERM to the group of a process that `start` began, SIGKILL to what is left after `grace_s` seconds."""
    for signum, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=wait_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def log_size(path: Path) -> int:
    """Bytes in the log, 0 if there is none: where the output of the next process begins."""
    return path.stat().st_size if path.exists() else 0


def tail(path: Path, *, begin: int) -> list[str]:
    """The lines of a log from the byte `begin` on, at most the last 64 KiB of it."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(max(begin, log_size(path) - 65536))
        return file.read().decode("utf-8", errors="replace").splitlines()
