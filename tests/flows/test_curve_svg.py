from xml.etree import ElementTree

import pytest

from nemotron.flows.curve_svg import LEFT, RIGHT, WIDTH, Axis, render_curve

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    "points",
    [
        [(1, 0.5)],
        [(1, 3.0), (2, 3.0)],
        [(1, 0.0)],
        [(1, -1e99), (2, 1e99)],
        [(step, 1e-9 * step) for step in range(1, 1001)],
    ],
)
def test_any_curve_stays_in_its_picture(points: list[tuple[float, float]]) -> None:
    picture = ElementTree.fromstring(render_curve("loss", points, total=1000))
    (line,) = [path.get("d", "") for path in picture.iter(f"{SVG}path") if path.get("fill") == "none"]
    corners = [tuple(map(float, corner.split())) for corner in line.removeprefix("M").split("L")]
    width, height = float(picture.get("width", "")), float(picture.get("height", ""))
    assert len(corners) == len(points)
    assert {0 <= x <= width and 0 <= y <= height for x, y in corners} == {True}


@pytest.mark.parametrize(("last", "fraction"), [(10, 0.5), (600, 0.6), (1000, 1.0)])
def test_early_in_a_long_run_the_curve_has_half_of_the_picture(last: int, fraction: float) -> None:
    picture = ElementTree.fromstring(render_curve("loss", [(1, 3.0), (last, 2.0)], total=1000))
    (end,) = picture.iter(f"{SVG}circle")
    left, right = LEFT, WIDTH - RIGHT
    assert float(end.get("cx", "")) == pytest.approx(left + fraction * (right - left), abs=0.1)


def test_a_name_stays_text() -> None:
    assert "<script>" not in render_curve("<script>", [(1, 1.0)])


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 500, [0, 100, 200, 300, 400, 500]), (1.9, 8.3, [2, 4, 6, 8]), (-0.3, 0.3, [-0.2, 0, 0.2])],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert list(Axis(low=low, high=high, begin=0, end=1).ticks()) == pytest.approx(ticks)
