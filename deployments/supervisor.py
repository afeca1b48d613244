"""Keeps a few programs alive, in order: starts one when those before it are ready, and again whenever it ends.

It knows neither Prefect nor PostgreSQL, and does not look into a program: one that hangs is left alone. What it does is
in `logs/supervisor.log` of its folder, what its programs print beside it, how they stand in `status.json`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from nemotron.deployments.background import owner
from nemotron.deployments.program import KeptProgram, Program

STATUS_NAME = "status.json"
LOGS_NAME = "logs"
LOOK_EVERY_S = 0.1
MAX_LOG_BYTES = 20_000_000
LIMIT_LOGS_EVERY_S = 5.0


def supervise(folder: Path, programs: Sequence[Program], *, to_files: bool = True) -> None:
    """Keep the programs alive until SIGTERM or SIGINT; then end them, the last one first. The caller owns the folder.

    What they print goes `to_files`, or where this process prints.
    """
    supervisor = Supervisor(folder, programs, to_files=to_files)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, supervisor.stop)
    supervisor.run()


class Supervisor:
    """The loop of `supervise`."""

    def __init__(self, folder: Path, programs: Sequence[Program], *, to_files: bool) -> None:
        self.folder = folder
        self.logs = folder / LOGS_NAME if to_files else None
        self.kept = [KeptProgram(program=program) for program in programs]
        self.is_stopping = False
        self._limit_logs_at = 0.0

    def stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """The signal handler: the loop ends at its next round."""
        self.is_stopping = True

    def run(self) -> None:
        """Go round until told to stop."""
        if self.logs:
            self.logs.mkdir(exist_ok=True)
        self.write_status()
        try:
            while not self.is_stopping:
                if self.look():
                    self.write_status()
                if self.logs and time.monotonic() >= self._limit_logs_at:
                    self._limit_logs_at = time.monotonic() + LIMIT_LOGS_EVERY_S
                    limit_logs(self.logs)
                time.sleep(LOOK_EVERY_S)
        finally:
            for kept in reversed(self.kept):
                kept.end()
            self.write_status()

    def look(self) -> bool:
        """Look at each program in order; whether anything has changed."""
        changed, may_start = False, True
        for kept in self.kept:
            log_path = self.logs / f"{kept.program.name}.log" if self.logs else None
            changed |= kept.look(log_path, may_start=may_start)
            may_start = may_start and kept.is_ready
        return changed

    def write_status(self) -> None:
        """For `read_status` in other processes."""
        partial = self.folder / f"{STATUS_NAME}.partial"
        with contextlib.suppress(OSError):  # a full disk must not end what runs
            partial.write_text(json.dumps([kept.describe() for kept in self.kept], indent=1), encoding="utf-8")
            partial.replace(self.folder / STATUS_NAME)


def read_status(folder: Path) -> list[dict[str, Any]]:
    """What the folder's supervisor says of its programs; nothing if there is none."""
    if owner(folder) is None:
        return []
    try:
        found: list[dict[str, Any]] = json.loads((folder / STATUS_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found


def limit_logs(folder: Path) -> None:
    """Move away what is longer than `MAX_LOG_BYTES`; of each log one older part is kept."""
    for path in folder.glob("*.log"):
        with contextlib.suppress(OSError):
            if path.stat().st_size > MAX_LOG_BYTES:
                _move_away(path)


def _move_away(path: Path) -> None:
    """Copy the log to NAME.1 and empty it: the programs have it open for appending."""
    try:
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    finally:
        os.truncate(path, 0)
