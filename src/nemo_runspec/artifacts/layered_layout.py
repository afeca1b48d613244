"""Lays a directed graph out in columns, from left to right, with few crossings; knows nothing of what it shows.

After Sugiyama, Tagawa, Toda 1981: columns by the longest way, order by the barycenter of the neighbours, then heights.
An edge over several columns runs in tracks between the boxes, which the edges from one box share. The same graph always
gives the same layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nemo_runspec.artifacts.layered_order import Spot, order_columns

COLUMN_GAP = 52.0
BOX_GAP = 18.0
TRACK_GAP = 10.0
TRACK_WEIGHT = 4.0  # tracks are kept straight before boxes are
NUM_SWEEPS = 12  # even, so that the last two see both sides

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Box:
    """Where a node is; `x` and `y` are of its upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class Route:
    """How an edge runs: from one point to the next, first in a curve between columns, then straight over one."""

    start: str
    end: str
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The whole drawing, which begins at 0, 0."""

    width: float
    height: float
    boxes: dict[str, Box]
    routes: tuple[Route, ...]


def lay_out(sizes: Mapping[str, tuple[float, float]], edges: Iterable[tuple[str, str]]) -> Layout:
    """Place boxes of the sizes (width, height); edges lead to the right. An edge that closes a circle is left out."""
    links = [(start, end) for start, end in dict.fromkeys(edges) if start in sizes and end in sizes]
    columns_of = assign_columns(list(sizes), links)
    links = [(start, end) for start, end in links if columns_of[start] < columns_of[end]]
    spots = {node: Spot(node, columns_of[node], *size) for node, size in sizes.items()}
    ways = _connect(spots, links)
    columns = order_columns(spots.values())
    _place(columns)
    return _measure(columns, ways)


def assign_columns(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Each node right of all it comes from; what comes from nothing just left of its first use."""
    inputs: dict[str, list[str]] = {node: [] for node in nodes}
    outputs: dict[str, list[str]] = {node: [] for node in nodes}
    for start, end in edges:
        inputs[end].append(start)
        outputs[start].append(end)
    columns: dict[str, int] = {}
    missing = {node: len(inputs[node]) for node in nodes}
    ready = [node for node in nodes if not missing[node]]
    while len(columns) < len(nodes):
        if not ready:  # a circle: begin anywhere
            ready = [next(node for node in nodes if node not in columns)]
        node = ready.pop()
        columns[node] = max((columns[it] + 1 for it in inputs[node] if it in columns), default=0)
        for output in outputs[node]:
            missing[output] -= 1
            if not missing[output] and output not in columns:
                ready.append(output)
    for node in nodes:
        if not inputs[node] and outputs[node]:
            columns[node] = max(0, min(columns[output] for output in outputs[node]) - 1)
    return columns


def _connect(spots: Mapping[str, Spot], links: Sequence[tuple[str, str]]) -> list[list[Spot]]:
    """Tie the spots together, with tracks where a link passes over columns; for each link, the spots of its way."""
    tracks: dict[tuple[str, int], Spot] = {}
    ways = []
    for start, end in links:
        way = [spots[start]]
        for column in range(spots[start].column + 1, spots[end].column):
            track = tracks.setdefault((start, column), Spot(start, column, 0.0, 0.0, is_track=True))
            _tie(way[-1], track)
            way.append(track)
        _tie(way[-1], spots[end])
        ways.append([*way, spots[end]])
    return ways


def _tie(left: Spot, right: Spot) -> None:
    if right not in left.rights:
        left.rights.append(right)
        right.lefts.append(left)


def _place(columns: Sequence[Sequence[Spot]]) -> None:
    """Give each spot the height of what it is tied to, as far as the others of its column leave room."""
    for column in columns:
        _settle(column, [0.0] * len(column))
    for sweep in range(NUM_SWEEPS):
        both, to_right = sweep >= NUM_SWEEPS - 2, sweep % 2 == 0
        for column in columns if to_right else reversed(columns):
            _settle(column, [_middle(spot, lefts=both or to_right, rights=both or not to_right) for spot in column])


def _middle(spot: Spot, *, lefts: bool, rights: bool) -> float:
    """The mean height of what the spot is tied to, its own if that is nothing."""
    tied = [*(spot.lefts if lefts else ()), *(spot.rights if rights else ())]
    return sum(other.y for other in tied) / len(tied) if tied else spot.y


def _settle(column: Sequence[Spot], wanted: Sequence[float]) -> None:
    """Place the column's spots as near as can be to the wanted heights, in order and without overlap.

    Less the distances to keep, the heights must only not fall: isotonic regression, by pooling adjacent violators.
    """
    offsets = [0.0]
    for upper, lower in pairwise(column):
        gap = TRACK_GAP if upper.is_track or lower.is_track else BOX_GAP
        offsets.append(offsets[-1] + (upper.height + lower.height) / 2 + gap)
    pools: list[tuple[float, float, int]] = []  # mean, weight, number of spots
    for spot, height, offset in zip(column, wanted, offsets, strict=True):
        mean, weight, size = height - offset, TRACK_WEIGHT if spot.is_track else 1.0, 1
        while pools and pools[-1][0] > mean:
            other_mean, other_weight, other_size = pools.pop()
            mean = (mean * weight + other_mean * other_weight) / (weight + other_weight)
            weight, size = weight + other_weight, size + other_size
        pools.append((mean, weight, size))
    means = [mean for mean, _, size in pools for _ in range(size)]
    for spot, mean, offset in zip(column, means, offsets, strict=True):
        spot.y = mean + offset


def _measure(columns: Sequence[Sequence[Spot]], ways: Sequence[Sequence[Spot]]) -> Layout:
    """The layout in numbers; the boxes of a column are as wide as its widest."""
    spots = [spot for column in columns for spot in column]
    top = min((spot.y - spot.height / 2 for spot in spots), default=0.0)
    height = max((spot.y + spot.height / 2 for spot in spots), default=0.0) - top
    sides, x = [], 0.0  # of each column
    for column in columns:
        width = max(spot.width for spot in column)
        sides.append((x, x + width))
        x += width + COLUMN_GAP
    boxes = {}
    for spot in spots:
        left, right = sides[spot.column]
        if not spot.is_track:
            boxes[spot.node] = Box(x=left, y=spot.y - top - spot.height / 2, width=right - left, height=spot.height)
    routes = []
    for way in ways:
        points = [(side, spot.y - top) for spot in way for side in sides[spot.column]]
        routes.append(Route(start=way[0].node, end=way[-1].node, points=tuple(points[1:-1])))
    return Layout(width=max(x - COLUMN_GAP, 0.0), height=height, boxes=boxes, routes=tuple(routes))
