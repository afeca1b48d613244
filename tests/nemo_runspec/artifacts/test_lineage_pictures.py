import io
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.image
import pytest
from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.artifacts.drawn_text import shorten, text_width
from nemo_runspec.artifacts.lineage_cards import MAX_SOURCES, MAX_TEXT_WIDTH
from nemo_runspec.artifacts.lineage_drawing import BORDERS, FILLS, LINE_COLOR, TEXT_COLOR, TITLE_COLOR, Drawing, draw
from nemo_runspec.artifacts.lineage_graph import build_graph
from nemo_runspec.artifacts.lineage_png import MAX_SIDE, render_png
from nemo_runspec.artifacts.lineage_svg import render_svg

SVG = "{http://www.w3.org/2000/svg}"
NASTY = [
    "</title><script>alert(1)</script>",
    "&amp; ]]> <!--",
    "'\" onload=x",
    "$\\frac{1}{0}$",
    "\x00\x0b\ufffe\x1b[31m",
    "名前のとても長いデータセット" * 4,
    "n" * 500,
    "a\nb\tc",
    "",
]


def drawing_of(store: ArtifactStore, ref: ArtifactRef) -> Drawing:
    return draw(build_graph(store, ref, store.lineage(ref)))


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def tooltips(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}title")]


def pixels(png: bytes) -> tuple[int, int]:
    height, width = matplotlib.image.imread(io.BytesIO(png)).shape[:2]
    return width, height


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""
    lights = sorted(
        0.05
        + sum(
            weight * (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)
            for weight, value in zip(
                (0.2126, 0.7152, 0.0722), (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)), strict=True
            )
        )
        for color in (one, other)
    )
    return lights[1] / lights[0]


@pytest.fixture
def chain(publish: Publisher) -> ArtifactRef:
    """A model from a corpus of one file."""
    source = {"name": "wiki", "uri": "/data/wiki.txt", "size_bytes": 1200, "sha256": "01" * 32}
    corpus = publish({"a": "1"}, name="corpus", stage="prep", metadata={"source_datasets": [source]})
    return publish(
        {"a": "2"}, name="base", type="ModelArtifact", stage="train", inputs=[corpus], metadata={"valid_loss": 3.25}
    )


@pytest.fixture(params=NASTY, ids=ascii)
def nasty(publish: Publisher, request: pytest.FixtureRequest) -> ArtifactRef:
    """A version of which all that may be any text is `request.param`."""
    source = {"name": request.param, "uri": request.param, "sha256": request.param}
    return publish({"a": "1"}, type=request.param, stage=request.param, metadata={"source_datasets": [source]})


def test_a_picture_says_what_is_known(store: ArtifactStore, chain: ArtifactRef) -> None:
    assert texts(render_svg(drawing_of(store, chain))) == [
        "base:v0", "ModelArtifact", "stage train", "run run-1", "valid_loss 3.250",
        "corpus:v0", "T", "stage prep", "run run-1",
        "wiki", "/data/wiki.txt", "1.2 kB, sha256:010101010101",
    ]  # fmt: skip


def test_the_whole_digests_are_in_the_tooltips(store: ArtifactStore, chain: ArtifactRef) -> None:
    base, _, wiki = tooltips(render_svg(drawing_of(store, chain)))
    assert base.splitlines()[-1] == chain.digest
    assert wiki.splitlines()[-2:] == ["1,200 bytes", "sha256:" + "01" * 32]


def test_what_the_store_lacks_is_drawn_so(store: ArtifactStore, chain: ArtifactRef, tmp_path: Path) -> None:
    (tmp_path / "store" / "artifacts" / "corpus" / "versions" / "v0.json").unlink()
    svg = render_svg(drawing_of(store, chain))
    assert "not in this store" in texts(svg)
    assert "stroke-dasharray" in svg


def test_a_picture_needs_no_other_file_and_runs_nothing(store: ArtifactStore, chain: ArtifactRef) -> None:
    svg = render_svg(drawing_of(store, chain))
    assert not re.search(r"href|url\(|@import|<script|<style|<image|<foreignObject", svg)
    assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]


def test_any_name_gives_a_sound_svg_of_the_same_elements(store: ArtifactStore, nasty: ArtifactRef) -> None:
    root = ElementTree.fromstring(render_svg(drawing_of(store, nasty)).encode())
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {"svg", "g", "path", "title", "rect", "text"}
    assert {name for element in root.iter() for name in element.attrib if name.startswith("on")} == set()


def test_any_name_gives_a_png(store: ArtifactStore, nasty: ArtifactRef) -> None:
    assert render_png(drawing_of(store, nasty)).startswith(b"\x89PNG")


def test_any_name_fits_its_box(store: ArtifactStore, nasty: ArtifactRef) -> None:
    placed = drawing_of(store, nasty).cards
    lines = [(line, card.box) for card in placed for line in card.lines]
    assert all(
        line.x + text_width(line.text, line.size, bold=line.is_title) <= box.x + box.width for line, box in lines
    )
    assert max(box.width for _, box in lines) < MAX_TEXT_WIDTH + 30


def test_a_png_has_the_picture_at_twice_its_size(store: ArtifactStore, chain: ArtifactRef) -> None:
    drawing = drawing_of(store, chain)
    width, height = pixels(render_png(drawing))
    assert (width / drawing.width, height / drawing.height) == pytest.approx((2, 2), abs=0.02)


def test_a_png_of_a_huge_picture_is_made_smaller() -> None:
    drawing = Drawing(title="x", width=100_000, height=100, cards=(), arrows=())
    assert pixels(render_png(drawing))[0] <= MAX_SIDE


@pytest.mark.parametrize("background", ["#ffffff", "#111111"])
def test_lines_and_borders_stand_out_on_light_and_on_dark(background: str) -> None:
    assert contrast(LINE_COLOR, background) > 3


@pytest.mark.parametrize("kind", ["model", "data", "source", "missing"])
def test_text_and_borders_stand_out_in_each_box(kind: str) -> None:
    fill = FILLS[kind]  # type: ignore[index]
    assert min(contrast(TITLE_COLOR, fill), contrast(TEXT_COLOR, fill)) > 7
    assert contrast(BORDERS[kind], fill) > 3  # type: ignore[index]


def test_of_many_sources_one_box_stands_for_the_rest(store: ArtifactStore, publish: Publisher) -> None:
    sources = [{"name": f"part-{n}", "uri": f"/parts/{n}", "size_bytes": 1000} for n in range(500)]
    svg = render_svg(drawing_of(store, publish({"a": "1"}, metadata={"source_datasets": sources})))
    shown = [text for text in texts(svg) if text.startswith("part-")]
    assert shown == [f"part-{n}" for n in range(MAX_SOURCES - 1)]
    assert texts(svg)[-2:] == ["489 more sources", "489.0 kB"]
    assert tooltips(svg)[-1].splitlines()[-1] == "and 459 more"


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_what_is_shortened_keeps_both_ends(text: str) -> None:
    shown = shorten(text, 100, 11)
    assert text_width(shown, 11) <= 100
    assert (shown[:1], shown[-1:]) == (text[:1], text[-1:])


def test_a_png_without_matplotlib_is_refused_with_what_to_install() -> None:
    code = """
import sys
sys.modules["matplotlib"] = None
from nemo_runspec.artifacts.lineage_drawing import Drawing
from nemo_runspec.artifacts.lineage_png import render_png
from nemo_runspec.errors import RequirementError
try:
    render_png(Drawing(title="x", width=1, height=1, cards=(), arrows=()))
except RequirementError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("a PNG is drawn by Matplotlib, which cannot be imported")
    assert done.stdout.endswith("pip install 'nemotron-flows[flows]', or take the SVG\n")
