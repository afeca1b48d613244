"""Processes of this one that all end with it, those that they leave behind included (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # prctl(2): orphans below become children of this process
# Slurm's KillWait, from SIGTERM to SIGKILL, is 30 s unless the site says otherwise; both rounds and the rest must fit.
GRACE_S = 10.0


class Children:
    """Started in order, ended in the opposite one."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []

    def start(
        self, command: Sequence[str], *, env: Mapping[str, str], log_path: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start the command, its output appended to a file, or where this one's goes; it ends if this one is killed."""
        wrapped = [sys.executable, "-m", "nemo_runspec.jobs.child", str(os.getpid()), *command]
        with contextlib.ExitStack() as scope:
            log = scope.enter_context(log_path.open("ab")) if log_path else None
            process = subprocess.Popen(
                wrapped, env=dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT if log else None
            )
        self._started.append(process)
        return process

    def end(self) -> None:
        """SIGTERM to each that was started, the last one first; then SIGKILL to all that is left below this process."""
        for process in reversed(self._started):
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=GRACE_S)
        for _ in range(100):
            left = descendants(os.getpid())
            if not left:
                return
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            _reap()
            time.sleep(0.05)


@contextmanager
def owned_children() -> Iterator[Children]:
    """Children for the block; none of them nor of theirs is left afterwards."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1)
    children = Children()
    try:
        yield children
    finally:
        children.end()


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, dead ones that nobody reaped left out, and threads too."""
    parents: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                # proc_pid_stat(5): the name is in parentheses and may hold anything, state and parent follow it.
                state, parent = Path(entry.path, "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    parents.setdefault(int(parent), []).append(int(entry.name))
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for one in level for child in parents.get(one, [])]
        found += level
    return found


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
