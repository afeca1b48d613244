"""A stop on request: whoever runs a stage asks, by a file, that it save a checkpoint and end; it asks nobody itself."""

from __future__ import annotations

import os
import time

ENV_STOP_FILE = "NEMOTRON_STOP_FILE"
STOPPED = 75  # sysexits.h: EX_TEMPFAIL
CHECK_INTERVAL_S = 1.0


class StopRequested(SystemExit):
    """Ends a script whose checkpoint of `step` is saved, with exit code 75; `run_script` tells it in one line."""

    def __init__(self, step: int) -> None:
        super().__init__(STOPPED)
        self.step = step

    def __str__(self) -> str:
        return f"stopped on request after step {self.step}; start again to go on"


class StopFile:
    """The file that asks for a stop; looks for it at most once every `CHECK_INTERVAL_S`, until it was there."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._found = False
        self._next_look = float("-inf")

    def exists(self) -> bool:
        """Whether it was there at the last look."""
        if not self._found and time.monotonic() >= self._next_look:
            self._found = os.path.exists(self.path)
            self._next_look = time.monotonic() + CHECK_INTERVAL_S
        return self._found


_watched = StopFile("")


def stop_requested() -> bool:
    """Whether the file that `$NEMOTRON_STOP_FILE` names exists; cheap enough to ask each step."""
    global _watched
    path = os.environ.get(ENV_STOP_FILE, "")
    if path != _watched.path:
        _watched = StopFile(path)
    return bool(path) and _watched.exists()
