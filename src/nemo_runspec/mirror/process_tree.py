"""Ending a process with all that it started, also what has made itself a session of its own, as wandb-core does."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_NUM_LOOKS = 100


def kill_all(pid: int, *, mark: str) -> None:
    """Kill the process group of `pid`, and on Linux every process that has `mark` in its environment."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    # Again, since what is killed may just have forked; not for ever, since a process in a dead file system stays.
    for _ in range(_NUM_LOOKS):
        marked = _find_marked(mark.encode())
        if not marked:
            return
        for found in marked:
            with suppress(ProcessLookupError):
                os.kill(found, signal.SIGKILL)
        time.sleep(0.02)


def _find_marked(mark: bytes) -> list[int]:
    pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()] if _PROC.is_dir() else []
    return [pid for pid in pids if pid != os.getpid() and mark in _environment(pid)]


def _environment(pid: int) -> bytes:
    """Nothing of a process that has ended or is another user's."""
    try:
        return Path(_PROC, str(pid), "environ").read_bytes()
    except OSError:
        return b""
