import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nemo_runspec.artifacts import ArtifactStore, Producer
from nemo_runspec.errors import ConfigError
from nemotron.cli.artifacts import app
from nemotron.cli.lineage_formats import Format, choose_format

PRODUCER = Producer(run_id="run-7", stage="prep", fingerprint="f0")
SOURCES = [{"name": "alice", "uri": "/texts/alice.txt", "size_bytes": 9, "sha256": "ab" * 32}]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    """A data set of one source, and a model made of it."""
    monkeypatch.setenv("NEMOTRON_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").write_text("x")
    store = ArtifactStore(tmp_path / "store")
    data = store.publish(
        tmp_path / "out", name="data", type="DataArtifact", producer=PRODUCER, metadata={"source_datasets": SOURCES}
    )
    store.publish(tmp_path / "out", name="model", type="ModelArtifact", producer=PRODUCER, metadata={}, inputs=[data])
    return store


def lineage(*args: str) -> None:
    app(["lineage", "model", *args], standalone_mode=False)


def titles(svg: str) -> list[str | None]:
    root = ElementTree.fromstring(svg)
    return [text.text for text in root.iter("{http://www.w3.org/2000/svg}text") if text.get("font-weight") == "bold"]


def test_svg_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    lineage("--format", "svg")
    assert titles(capsys.readouterr().out) == ["model:v0", "data:v0", "alice"]


def test_what_was_made_from_it_is_drawn_too(capsys: pytest.CaptureFixture[str]) -> None:
    app(["lineage", "data", "--down", "--format", "svg"], standalone_mode=False)
    assert titles(capsys.readouterr().out) == ["data:v0", "model:v0"]


def test_png_goes_to_standard_output_that_is_no_terminal(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    lineage("--format", "png")
    assert capfdbinary.readouterr().out.startswith(b"\x89PNG")


def test_png_is_not_sent_to_a_terminal() -> None:
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "nemotron.cli", "artifacts", "lineage", "model", "--format", "png"]
    done = subprocess.run(command, stdin=end, stdout=end, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(end)
    os.close(terminal)
    assert done.returncode == 2
    assert done.stderr == (
        "error: --format png: a picture is nothing for a terminal; give -o FILE, or send it to one with >\n"
    )


@pytest.mark.parametrize(
    ("name", "begin"),
    [("x.svg", "<svg"), ("x.json", '{\n "ref": "model:v0"'), ("x.txt", "model:v0"), ("X.SVG", "<svg")],
)
def test_the_suffix_says_the_format(name: str, begin: str, capsys: pytest.CaptureFixture[str]) -> None:
    lineage("-o", name)
    assert Path(name).read_text().startswith(begin)
    assert capsys.readouterr() == ("", "")


def test_png_is_written_to_a_file() -> None:
    lineage("-o", "x.png")
    assert Path("x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("args", [("--json",), ("--format", "json"), ("--json", "--format", "json")])
def test_json_can_be_asked_for_in_two_ways(args: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    lineage(*args)
    assert json.loads(capsys.readouterr().out)["ref"] == "model:v0"


@pytest.mark.parametrize(
    ("given", "output", "chosen"),
    [
        (None, None, "text"),
        ("svg", None, "svg"),
        (None, "a.png", "png"),
        ("svg", "a.svg", "svg"),
        ("svg", "picture", "svg"),
        ("svg", "a.data", "svg"),
    ],
)
def test_the_format_is_chosen(given: Format | None, output: str | None, chosen: Format) -> None:
    assert choose_format(given, Path(output) if output else None) == chosen


@pytest.mark.parametrize("output", ["x", "x.gif", ".svg", "x.svg.bak"])
def test_a_file_that_names_no_format_is_refused(output: str) -> None:
    with pytest.raises(ConfigError, match=r"names no format; give --format text\|json\|svg\|png, or a file that ends"):
        choose_format(None, Path(output))


def test_a_refused_command_writes_nothing() -> None:
    with pytest.raises(ConfigError, match=r"a file that ends in \.png is png, and --format is svg"):
        lineage("--format", "svg", "-o", "x.png")
    assert not Path("x.png").exists()
