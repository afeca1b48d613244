"""The picture of a lineage in pixels, and its colors; lineage_svg.py and lineage_png.py make files of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from nemo_runspec.artifacts.drawn_text import text_width
from nemo_runspec.artifacts.layered_layout import Box, Point, lay_out
from nemo_runspec.artifacts.lineage_cards import TEXT_SIZE, TITLE_SIZE, Card, Kind, make_cards
from nemo_runspec.artifacts.lineage_graph import LineageGraph

LINE_HEIGHT = 16.0
PADDING = 10.0
MARGIN = 16.0
CORNER_RADIUS = 6.0
ARROW_LENGTH, ARROW_HALF_WIDTH = 8.0, 4.0

# The boxes bring their own background. The lines between them stand out on white and on black.
FILLS: dict[Kind, str] = {"model": "#dbe7ff", "data": "#dcf5e3", "source": "#f3f0e8", "missing": "#ffe3e0"}
BORDERS: dict[Kind, str] = {"model": "#3f66c4", "data": "#2f8a4c", "source": "#8c8473", "missing": "#c2402f"}
TITLE_COLOR, TEXT_COLOR, LINE_COLOR = "#14181f", "#414853", "#808794"


Turn = Callable[[Point], Point]
"""Makes of a place or a size in a layout, which leads to the right, the one that is drawn."""


@dataclass(frozen=True, kw_only=True)
class TextLine:
    """A line of text whose baseline begins at `x`, `y`."""

    x: float
    y: float
    text: str
    is_title: bool

    @property
    def size(self) -> float:
        """Of its font, in pixels."""
        return TITLE_SIZE if self.is_title else TEXT_SIZE

    @property
    def color(self) -> str:
        """As `#rrggbb`."""
        return TITLE_COLOR if self.is_title else TEXT_COLOR


@dataclass(frozen=True, kw_only=True)
class PlacedCard:
    """A card, its box and where its lines are."""

    card: Card
    box: Box
    lines: tuple[TextLine, ...]


@dataclass(frozen=True, kw_only=True)
class Stroke:
    """A piece of a line: straight, or a Bézier curve with its two control points between its ends."""

    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Arrow:
    """A line of strokes with a head, a triangle whose first point is the tip."""

    strokes: tuple[Stroke, ...]
    head: tuple[Point, Point, Point]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """All that is shown."""

    title: str
    width: float
    height: float
    cards: tuple[PlacedCard, ...]
    arrows: tuple[Arrow, ...]


def draw(graph: LineageGraph, *, downwards: bool = False) -> Drawing:
    """Lay the graph out: sources on the left, or at the top; what was made from all of it on the right, or below."""
    cards, edges = make_cards(graph)
    turn = _swap if downwards else _keep
    sizes = {card.node: turn(_card_size(card)) for card in cards}
    layout = lay_out(sizes, [(edge.used, edge.made) for edge in edges])
    width, height = turn((layout.width + 2 * MARGIN, layout.height + 2 * MARGIN))
    return Drawing(
        title=f"Lineage of {graph.ref}",
        width=width,
        height=height,
        cards=tuple(_place(card, layout.boxes[card.node], turn) for card in cards),
        arrows=tuple(_bend(route.points, turn) for route in layout.routes),
    )


def _keep(pair: Point) -> Point:
    return pair


def _swap(pair: Point) -> Point:
    return pair[1], pair[0]


def _card_size(card: Card) -> tuple[float, float]:
    title, *others = card.lines
    widths = [text_width(title, TITLE_SIZE, bold=True), *(text_width(line, TEXT_SIZE) for line in others)]
    return max(widths) + 2 * PADDING, len(card.lines) * LINE_HEIGHT + 1.6 * PADDING


def _place(card: Card, box: Box, turn: Turn) -> PlacedCard:
    (x, y), (width, height) = turn((box.x + MARGIN, box.y + MARGIN)), turn((box.width, box.height))
    moved = Box(x=x, y=y, width=width, height=height)
    lines = (
        TextLine(x=moved.x + PADDING, y=moved.y + PADDING / 2 + (row + 1) * LINE_HEIGHT, text=text, is_title=row == 0)
        for row, text in enumerate(card.lines)
    )
    return PlacedCard(card=card, box=moved, lines=tuple(lines))


def _bend(points: tuple[Point, ...], turn: Turn) -> Arrow:
    """Curves from column to column, straight pieces over a column; the last curve ends at the foot of the head."""
    moved = [(x + MARGIN, y + MARGIN) for x, y in points]
    tip = moved[-1]
    foot = tip[0] - ARROW_LENGTH
    moved[-1] = (foot, tip[1])
    strokes = []
    for index, (start, end) in enumerate(pairwise(moved)):
        middle = (start[0] + end[0]) / 2
        is_curve = index % 2 == 0
        corners = (start, (middle, start[1]), (middle, end[1]), end) if is_curve else (start, end)
        strokes.append(Stroke(points=tuple(turn(corner) for corner in corners)))
    sides = turn((foot, tip[1] - ARROW_HALF_WIDTH)), turn((foot, tip[1] + ARROW_HALF_WIDTH))
    return Arrow(strokes=tuple(strokes), head=(turn(tip), *sides))
