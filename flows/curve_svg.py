"""The curve of a metric as SVG: a small picture that needs no drawing library."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from nemo_runspec.artifacts.lineage_svg import FONT
from nemotron.tasks.live_metrics import Point

WIDTH, HEIGHT = 760, 250
LEFT, RIGHT, TOP, BOTTOM = 62, 40, 34, 30
NUM_TICKS = 5
BACKGROUND, GRID_COLOR, TEXT_COLOR, CURVE_COLOR = "#ffffff", "#e3e6ea", "#414853", "#3f66c4"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Values from `low` to `high` on pixels from `begin` to `end`."""

    low: float
    high: float
    begin: float
    end: float

    def place(self, value: float) -> float:
        """Where the value is."""
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self) -> Iterator[float]:
        """A few round values."""
        rough = (self.high - self.low) / NUM_TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        first = math.ceil(self.low / step)
        return (number * step for number in range(first, math.floor(self.high / step) + 1))


def render_curve(metric: str, points: Sequence[Point], *, total: float | None = None) -> str:
    """The `<svg>` element; half of it at most is left for the steps up to `total`, so that the curve can be seen."""
    last = points[-1][0]
    steps = Axis(low=0, high=max(last, min(total or 1, 2 * last)) or 1, begin=LEFT, end=WIDTH - RIGHT)
    values = value_axis([value for _, value in points])
    root = Element("svg", xmlns="http://www.w3.org/2000/svg", width=str(WIDTH), height=str(HEIGHT), role="img")
    root.attrib |= {"aria-label": f"{metric} by step", "font-family": FONT, "font-size": "12"}
    SubElement(root, "rect", width=str(WIDTH), height=str(HEIGHT), rx="6", fill=BACKGROUND)
    for value in values.ticks():
        height = values.place(value)
        SubElement(root, "path", d=f"M{LEFT} {height:.1f}H{WIDTH - RIGHT}", stroke=GRID_COLOR)
        _write(root, LEFT - 8, height + 4, f"{value:g}", anchor="end")
    for step in steps.ticks():
        _write(root, steps.place(step), HEIGHT - 10, f"{step:,.0f}" if step == int(step) else "", anchor="middle")
    _write(root, LEFT, 20, f"{metric} {points[-1][1]:,.4g} at step {last:,.0f}", anchor="start")
    corners = [(steps.place(step), values.place(value)) for step, value in points]
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in corners)
    SubElement(root, "path", d=f"M{line}", fill="none", stroke=CURVE_COLOR).set("stroke-width", "1.5")
    SubElement(root, "circle", cx=f"{corners[-1][0]:.1f}", cy=f"{corners[-1][1]:.1f}", r="3", fill=CURVE_COLOR)
    return tostring(root, encoding="unicode")


def value_axis(values: Sequence[float]) -> Axis:
    """From the lowest to the highest, upwards, with some room around."""
    low, high = min(values), max(values)
    room = (high - low) * 0.05 or abs(low) * 0.05 or 1.0
    return Axis(low=low - room, high=high + room, begin=HEIGHT - BOTTOM, end=TOP)


def _write(root: Element, x: float, y: float, text: str, *, anchor: str) -> None:
    shown = SubElement(root, "text", x=f"{x:.1f}", y=f"{y:.1f}", fill=TEXT_COLOR)
    shown.set("text-anchor", anchor)
    shown.text = text
