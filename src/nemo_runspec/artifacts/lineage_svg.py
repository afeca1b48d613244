"""The picture of a lineage as SVG: one file that needs no other, and its text is text."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from nemo_runspec.artifacts.layered_layout import Point
from nemo_runspec.artifacts.lineage_drawing import (
    BORDERS,
    CORNER_RADIUS,
    FILLS,
    LINE_COLOR,
    Arrow,
    Drawing,
    PlacedCard,
)

FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"


def render_svg(drawing: Drawing) -> str:
    """The `<svg>` element; it may be a file, and it may stand in an HTML page."""
    width, height = f"{drawing.width:.0f}", f"{drawing.height:.0f}"
    root = Element("svg", xmlns="http://www.w3.org/2000/svg", width=width, height=height, role="img")
    root.attrib |= {"viewBox": f"0 0 {width} {height}", "aria-label": drawing.title, "font-family": FONT}
    lines = SubElement(root, "g", {"fill": "none", "stroke": LINE_COLOR, "stroke-width": "1.5"})
    heads = SubElement(root, "g", fill=LINE_COLOR)
    for arrow in drawing.arrows:
        SubElement(lines, "path", d=_line_path(arrow))
        SubElement(heads, "path", d=_head_path(arrow))
    for placed in drawing.cards:
        _add_card(root, placed)
    indent(root, space="")
    return tostring(root, encoding="unicode") + "\n"


def _add_card(parent: Element, placed: PlacedCard) -> None:
    card, box = placed.card, placed.box
    group = SubElement(parent, "g")
    SubElement(group, "title").text = card.tooltip
    outline = SubElement(group, "rect", x=f"{box.x:.1f}", y=f"{box.y:.1f}", rx=f"{CORNER_RADIUS:g}")
    outline.attrib |= {"width": f"{box.width:.1f}", "height": f"{box.height:.1f}", "fill": FILLS[card.kind]}
    outline.attrib |= {"stroke": BORDERS[card.kind], "stroke-width": "2.5" if card.is_focus else "1"}
    if card.kind == "missing":
        outline.set("stroke-dasharray", "5 3")
    for line in placed.lines:
        shown = SubElement(group, "text", x=f"{line.x:.1f}", y=f"{line.y:.1f}", fill=line.color)
        shown.set("font-size", f"{line.size:g}")
        if line.is_title:
            shown.set("font-weight", "bold")
        shown.text = line.text


def _line_path(arrow: Arrow) -> str:
    """The `d` of the arrow's line."""
    pieces = [f"M{_coordinates(arrow.strokes[0].points[0])}"]
    for stroke in arrow.strokes:
        _, *others = stroke.points
        pieces.append(("C" if len(others) == 3 else "L") + " ".join(_coordinates(point) for point in others))
    return "".join(pieces)


def _head_path(arrow: Arrow) -> str:
    return f"M{'L'.join(_coordinates(point) for point in arrow.head)}z"


def _coordinates(point: Point) -> str:
    return f"{point[0]:.1f} {point[1]:.1f}"
