"""What a metrics file says while it grows: each line is read once, and little is kept of a file of any length."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_runspec.metrics_log import parse_rows
from nemo_runspec.slurm.logs import LogFollower

DRAWN = ("reward", "loss")
"""Metrics of which the curve is kept; the first that is logged says most."""
MAX_POINTS = 1000
RECENT_STEPS = 50
LARGEST = 1e100
"""What is drawn; the difference of two must be a number, too."""

Point = tuple[float, float]
"""Step and value."""


@dataclass(kw_only=True)
class LiveMetrics:
    """`last` is the newest row; a training that goes on at an earlier step takes back what came after it."""

    path: Path
    last: Mapping[str, Any] = field(default_factory=dict)
    _points: dict[str, list[Point]] = field(default_factory=lambda: {name: [] for name in DRAWN})
    _recent: deque[Point] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))
    _file: LogFollower = field(init=False)

    def __post_init__(self) -> None:
        self._file = LogFollower(path=self.path)

    def look(self) -> None:
        """Take in what was added since."""
        while lines := self._file.read_lines():
            for row in parse_rows(lines):
                if isinstance(row.get("step"), int):
                    self._take(row)

    @property
    def fraction(self) -> float:
        """How much of the training is done, of 1."""
        return min(1.0, self.last["step"] / self.last["total"]) if self.last.get("total") else 0.0

    @property
    def seconds_a_step(self) -> float | None:
        """Over the last steps, None where that is not known."""
        if len(self._recent) < 2:
            return None
        (first, begin), (last, end) = self._recent[0], self._recent[-1]
        return (end - begin) / (last - first)

    @property
    def seconds_left(self) -> float | None:
        """From the last row to the last step, None where that is not known."""
        each = self.seconds_a_step
        return each * (self.last["total"] - self.last["step"]) if each and self.last.get("total") else None

    def curve(self) -> tuple[str, Sequence[Point]] | None:
        """The metric that says most, and its points; None if none was logged."""
        return next(((name, points) for name, points in self._points.items() if points), None)

    def _take(self, row: Mapping[str, Any]) -> None:
        step = row["step"]
        if step <= self.last.get("step", 0):
            self._recent.clear()
        self.last = row
        if isinstance(row.get("time"), int | float):
            self._recent.append((step, row["time"]))
        for name, points in self._points.items():
            while points and points[-1][0] >= step:
                points.pop()
            value = row.get(name)
            if isinstance(value, int | float) and abs(value) < LARGEST:  # neither is NaN
                points.append((step, value))
            if len(points) > MAX_POINTS:
                points[:] = thin(points)


def thin(points: Sequence[Point]) -> list[Point]:
    """About half of them, so that the curve looks the same: of each four the lowest and the highest. Pure."""
    kept: list[Point] = []
    for begin in range(0, len(points), 4):
        four = points[begin : begin + 4]
        kept += sorted({min(four, key=_value), max(four, key=_value)})
    return kept


def _value(point: Point) -> float:
    return point[1]
