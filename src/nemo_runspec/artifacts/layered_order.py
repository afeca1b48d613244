"""In which order the boxes of each column of a layered drawing stand, so that few of its lines cross."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

NUM_SWEEPS = 12
MAX_STARTS, MAX_STARTS_WORK = 20, 20_000  # the larger the graph, the fewer orders to start from
MAX_EXCHANGED = 400  # boxes and tracks in a column; beyond that, exchanging neighbours takes too long


@dataclass(eq=False)
class Spot:
    """A box, or the track of edges over a column."""

    node: str
    column: int
    width: float
    height: float
    is_track: bool = False
    lefts: list[Spot] = field(default_factory=list)
    rights: list[Spot] = field(default_factory=list)
    position: int = 0
    y: float = 0.0


def order_columns(spots: Iterable[Spot]) -> list[list[Spot]]:
    """The columns in the order with the fewest crossings that is found from a first order and from others by chance.

    The same graph always gives the same order.
    """
    columns = _first_order(spots)
    _number(columns)
    best, fewest = [list(column) for column in columns], count_crossings(columns)
    chance = Random(0)
    num_others = min(MAX_STARTS, MAX_STARTS_WORK // max(1, sum(len(column) ** 2 for column in columns)))
    for start in range(1 + num_others):
        for column in columns if start else ():
            chance.shuffle(column)
        _number(columns)
        for sweep in range(NUM_SWEEPS):
            if not fewest:
                return best
            _sweep(columns, to_right=sweep % 2 == 0)
            if (crossings := count_crossings(columns)) < fewest:
                best, fewest = [list(column) for column in columns], crossings
    return best


def count_crossings(columns: Sequence[Sequence[Spot]]) -> int:
    """How often lines between neighbouring columns cross."""
    crossings = 0
    for column in columns:
        passed: list[int] = []
        for spot in column:
            for position in (positions := sorted(right.position for right in spot.rights)):
                crossings += len(passed) - bisect_right(passed, position)
            for position in positions:
                insort(passed, position)
    return crossings


def _first_order(spots: Iterable[Spot]) -> list[list[Spot]]:
    """Depth first from the right, so that what belongs together stands together."""
    columns: dict[int, list[Spot]] = {}
    seen: set[Spot] = set()
    stack = sorted(spots, key=lambda spot: spot.column)
    while stack:
        spot = stack.pop()
        if spot not in seen:
            seen.add(spot)
            columns.setdefault(spot.column, []).append(spot)
            stack += reversed(spot.lefts)
    return [columns[number] for number in sorted(columns)]


def _sweep(columns: list[list[Spot]], *, to_right: bool) -> None:
    """Bring each column in the order of what it is tied to on one side, then exchange neighbours where that helps."""

    def barycenter(spot: Spot) -> float:
        tied = spot.lefts if to_right else spot.rights
        return sum(other.position for other in tied) / len(tied) if tied else spot.position

    for column in columns if to_right else reversed(columns):
        column.sort(key=barycenter)
        _number([column])
    for column in columns:
        if len(column) <= MAX_EXCHANGED:
            _exchange_neighbours(column)


def _exchange_neighbours(column: list[Spot]) -> None:
    for index in range(len(column) - 1):
        upper, lower = column[index], column[index + 1]
        if _crossings_of(lower, upper) < _crossings_of(upper, lower):
            column[index], column[index + 1] = lower, upper
    _number([column])


def _crossings_of(upper: Spot, lower: Spot) -> int:
    """How often the lines of the two cross while `upper` stands above `lower`."""
    sides = ((upper.lefts, lower.lefts), (upper.rights, lower.rights))
    return sum(a.position > b.position for uppers, lowers in sides for a in uppers for b in lowers)


def _number(columns: Iterable[Sequence[Spot]]) -> None:
    for column in columns:
        for position, spot in enumerate(column):
            spot.position = position
