"""What the boxes in the picture of a lineage say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.filesize import decimal

from nemo_runspec.artifacts.drawn_text import shorten
from nemo_runspec.artifacts.lineage_graph import ArtifactNode, GraphEdge, LineageGraph, SourceNode
from nemo_runspec.artifacts.source_files import printable

Kind = Literal["model", "data", "source", "missing"]

TITLE_SIZE = 13.0
TEXT_SIZE = 11.0
MAX_TEXT_WIDTH = 240.0
MAX_SOURCES = 12  # of the same artifacts; the others are one box
MAX_TOLD = 30
NOT_IN_STORE = "not in this store"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a box says, as it fits, the first line its title; the tooltip tells all in full."""

    node: str
    kind: Kind
    lines: tuple[str, ...]
    tooltip: str
    is_focus: bool = False


def make_cards(graph: LineageGraph) -> tuple[list[Card], list[GraphEdge]]:
    """A card for each artifact and source, and the edges between them.

    Of more than `MAX_SOURCES` sources of the same artifacts one card stands for those that have none.
    """
    cards = [_artifact_card(node, is_focus=node.id == graph.ref) for node in graph.artifacts]
    edges = list(graph.edges)
    left_out: set[str] = set()
    for made, nodes in _alike_sources(graph).items():
        shown = nodes if len(nodes) <= MAX_SOURCES else nodes[: MAX_SOURCES - 1]
        cards += [_source_card(node) for node in shown]
        if others := nodes[len(shown) :]:
            cards.append(_joined_card(others))
            left_out |= {node.id for node in others}
            edges += [GraphEdge(used=cards[-1].node, made=it) for it in made]
    return cards, [edge for edge in edges if edge.used not in left_out]


def _alike_sources(graph: LineageGraph) -> dict[tuple[str, ...], list[SourceNode]]:
    """Sources by what was made from them."""
    made_from: dict[str, list[str]] = defaultdict(list)
    for edge in graph.edges:
        made_from[edge.used].append(edge.made)
    alike: dict[tuple[str, ...], list[SourceNode]] = defaultdict(list)
    for node in graph.sources:
        alike[tuple(made_from[node.id])].append(node)
    return alike


def _artifact_card(node: ArtifactNode, *, is_focus: bool) -> Card:
    made_by = [f"stage {node.stage}", f"run {node.run_id}"] if node.in_store else [NOT_IN_STORE]
    mirrored = f"W&B: {node.wandb}" if node.wandb else ""
    kind: Kind = "missing" if not node.in_store else "model" if "Model" in node.type else "data"
    lines = [node.id, node.type, *made_by, node.key_metric, mirrored]
    return _new_card(node.id, kind, lines, [*lines, node.digest], is_focus=is_focus)


def _source_card(node: SourceNode) -> Card:
    source = node.source
    size, exact = "", ""
    if source.num_bytes is not None:
        size, exact = decimal(source.num_bytes), f"{source.num_bytes:,} bytes"
    lines = [source.name, source.uri, ", ".join(part for part in (size, source.short_digest) if part)]
    return _new_card(node.id, "source", lines, [source.name, source.uri, exact, source.digest])


def _joined_card(nodes: Sequence[SourceNode]) -> Card:
    num_bytes = sum(node.source.num_bytes or 0 for node in nodes)
    told = [f"{node.source.name}: {node.source.uri}" for node in nodes[:MAX_TOLD]]
    if len(nodes) > MAX_TOLD:
        told.append(f"and {len(nodes) - MAX_TOLD:,} more")
    lines = [f"{len(nodes):,} more sources", decimal(num_bytes) if num_bytes else ""]
    return _new_card(f"more than {nodes[0].id}", "source", lines, told)


def _new_card(node: str, kind: Kind, lines: Sequence[str], told: Sequence[str], *, is_focus: bool = False) -> Card:
    title, *others = [printable(line) for line in lines if line] or ["?"]
    fitting = (
        shorten(title, MAX_TEXT_WIDTH, TITLE_SIZE, bold=True),
        *(shorten(line, MAX_TEXT_WIDTH, TEXT_SIZE) for line in others),
    )
    tooltip = "\n".join(printable(line) for line in told if line)
    return Card(node=node, kind=kind, lines=fitting, tooltip=tooltip, is_focus=is_focus)
