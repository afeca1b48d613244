"""One stage as a process tree on this machine: start it, wait for it, end it, never two in one work directory.

The child inherits an exclusive lock on the work directory, so the lock lives exactly as long as any process of the
stage does, also when this process was killed. On Linux the child is told to end when this process dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nemo_runspec.errors import RunspecError

LOCK_NAME = ".lock"
GRACE_S = 20.0


@contextlib.contextmanager
def locked(work_dir: Path, *, timeout_s: float = 60.0) -> Iterator[int]:
    """Hold the stage's lock; yields its file descriptor, to be inherited by the stage's process.

    Raises:
        RunspecError: another run holds the lock for longer than `timeout_s` seconds.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    fd = os.open(work_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RunspecError(
                        f"{work_dir}: another run is working on this very stage and still was after "
                        f"{timeout_s:.0f} s; wait for it, or end it (fuser {work_dir / LOCK_NAME})"
                    ) from None
                time.sleep(0.2)
        yield fd
    finally:
        os.close(fd)


def start(command: Sequence[str], *, env: Mapping[str, str], log_path: Path, lock_fd: int) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, its output appended to `log_path`."""
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
            pass_fds=(lock_fd,),
        )


def terminate(process: subprocess.Popen[bytes], *, grace_s: float = GRACE_S) -> None:
    """SIGTERM to the stage's process group, SIGKILL to what is left after `grace_s` seconds."""
    for signum, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=wait_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def tail(path: Path, num_lines: int = 15) -> list[str]:
    """The last lines of a log, at most 64 KiB of it."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 65536))
        return file.read().decode("utf-8", errors="replace").splitlines()[-num_lines:]
