"""The forms in which `nemotron artifacts lineage` shows a lineage, and which of them is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, get_args

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, lineage_text
from nemo_runspec.artifacts.descendants import descendants_text, find_descendants
from nemo_runspec.artifacts.lineage_drawing import draw
from nemo_runspec.artifacts.lineage_graph import LineageGraph, build_graph
from nemo_runspec.artifacts.lineage_png import render_png
from nemo_runspec.artifacts.lineage_svg import render_svg
from nemo_runspec.errors import ConfigError

Format = Literal["text", "json", "svg", "png"]

SUFFIXES: dict[str, Format] = {".txt": "text", ".json": "json", ".svg": "svg", ".png": "png"}


def choose_format(given: Format | None, output: Path | None) -> Format:
    """The format that was asked for, else that of the file's suffix, else text.

    Raises:
        ConfigError: the suffix is that of another format, or of none where none was asked for.
    """
    if output is None:
        return given or "text"
    named = SUFFIXES.get(output.suffix.lower())
    if given is None and named is None:
        raise ConfigError(
            f"-o {output}: its suffix {output.suffix!r} names no format; "
            f"give --format {'|'.join(get_args(Format))}, or a file that ends in {', '.join(SUFFIXES)}"
        )
    if given is not None and named not in (given, None):
        raise ConfigError(
            f"-o {output}: a file that ends in {output.suffix} is {named}, and --format is {given}; change one of them"
        )
    return given or named or "text"


def render_lineage(store: ArtifactStore, ref: ArtifactRef, format_: Format, *, down: bool) -> bytes:
    """What the version was made from, or with `down` what was made from it.

    Raises:
        RequirementError: a PNG, and Matplotlib is not installed.
    """
    if format_ == "text":
        return f"{descendants_text(store, ref) if down else lineage_text(store, ref)}\n".encode()
    graph = load_graph(store, ref, down=down)
    if format_ == "json":
        return f"{json.dumps(graph.document(), indent=1)}\n".encode()
    return render_svg(draw(graph)).encode() if format_ == "svg" else render_png(draw(graph))


def load_graph(store: ArtifactStore, ref: ArtifactRef, *, down: bool) -> LineageGraph:
    """The graph that is shown; upwards it goes to the source files."""
    edges = find_descendants(store, ref) if down else store.lineage(ref)
    return build_graph(store, ref, edges, sources=not down)


def write_output(path: Path, content: bytes) -> None:
    """Write the file, over one that is there.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"-o {path}: cannot be written: {error.strerror or error}; give another file") from error
