"""The picture of a lineage as PNG, on white, drawn by Matplotlib."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from nemo_runspec.artifacts.lineage_drawing import (
    BORDERS,
    CORNER_RADIUS,
    FILLS,
    LINE_COLOR,
    Arrow,
    Drawing,
    PlacedCard,
)
from nemo_runspec.errors import RequirementError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCALE = 2.0  # image pixels a pixel of the drawing, as on a fine screen
MAX_SIDE, MAX_AREA = 30_000, 60_000_000  # image pixels; Matplotlib refuses 65,536 on a side, viewers give up before
_POINTS_A_PIXEL = 0.72  # 72 points an inch, 100 pixels of the drawing an inch


def render_png(drawing: Drawing) -> bytes:
    """The PNG file; a drawing that is too large for one is made smaller.

    Raises:
        RequirementError: Matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RequirementError(
            f"a PNG is drawn by Matplotlib, which cannot be imported ({error}); "
            "pip install 'nemotron-flows[flows]', or take the SVG"
        ) from error
    fitting = min(MAX_SIDE / max(drawing.width, drawing.height), (MAX_AREA / drawing.width / drawing.height) ** 0.5)
    scale = min(SCALE, fitting)
    figure = Figure(figsize=(drawing.width / 100, drawing.height / 100), dpi=100 * scale, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, drawing.width), ylim=(drawing.height, 0))
    axes.set_axis_off()
    for arrow in drawing.arrows:
        _add_arrow(axes, arrow)
    for placed in drawing.cards:
        _add_card(axes, placed)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font")  # shown as a box, which is enough
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _add_arrow(axes: Axes, arrow: Arrow) -> None:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path

    points, codes = [arrow.strokes[0].points[0]], [Path.MOVETO]
    for stroke in arrow.strokes:
        _, *others = stroke.points
        points += others
        codes += [Path.CURVE4 if len(others) == 3 else Path.LINETO] * len(others)
    line_width = 1.5 * _POINTS_A_PIXEL
    axes.add_patch(PathPatch(Path(points, codes), facecolor="none", edgecolor=LINE_COLOR, linewidth=line_width))
    axes.add_patch(Polygon(arrow.head, closed=True, facecolor=LINE_COLOR, edgecolor="none"))


def _add_card(axes: Axes, placed: PlacedCard) -> None:
    from matplotlib.patches import FancyBboxPatch

    card, box = placed.card, placed.box
    outline = FancyBboxPatch(
        (box.x, box.y),
        box.width,
        box.height,
        boxstyle=f"round,pad=0,rounding_size={CORNER_RADIUS}",
        facecolor=FILLS[card.kind],
        edgecolor=BORDERS[card.kind],
        linewidth=(2.5 if card.is_focus else 1.0) * _POINTS_A_PIXEL,
        linestyle="--" if card.kind == "missing" else "-",
    )
    axes.add_patch(outline)
    for line in placed.lines:
        weight = "bold" if line.is_title else "normal"
        size = line.size * _POINTS_A_PIXEL
        axes.text(line.x, line.y, line.text, size=size, weight=weight, color=line.color, parse_math=False)
