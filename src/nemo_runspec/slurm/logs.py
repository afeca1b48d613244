"""A job's log as it grows, read from where the last look ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_CHUNK = 2**20


@dataclass(kw_only=True)
class LogFollower:
    """Reads the file from the byte `offset` on; a line is given once, when it is whole."""

    path: Path
    offset: int = 0
    _rest: bytes = b""

    def read_lines(self, *, to_end: bool = False) -> list[str]:
        """The lines that were added since, of at most 1 MiB; with `to_end` all, also a last one that is not whole.

        A log that is not there yet, or cannot be read now, has none.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                added = file.read(-1 if to_end else _CHUNK)
        except OSError:
            return []
        self.offset += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        if to_end and self._rest:
            lines, self._rest = [*lines, self._rest], b""
        return [line.decode("utf-8", errors="replace").rstrip("\r") for line in lines]
