"""The lineage of an artifact as a graph: versions and source files, and which was made from which.

It is what `lineage --format json` gives and what lineage_drawing.py draws.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nemo_runspec.artifacts.key_metric import key_metric
from nemo_runspec.artifacts.lineage import LineageEdge, record_or_none
from nemo_runspec.artifacts.refs import ArtifactRef
from nemo_runspec.artifacts.source_files import SourceFile, parse_sources
from nemo_runspec.artifacts.store import ArtifactStore
from nemo_runspec.errors import ArtifactCorrupted
from nemo_runspec.mirror.pins import WandbPin, newest_pin


@dataclass(frozen=True, kw_only=True)
class ArtifactNode:
    """One version; `stage` and `run_id` are None if the store lacks it, `wandb` if it is not on W&B."""

    id: str
    type: str
    digest: str
    stage: str | None
    run_id: str | None
    key_metric: str
    wandb: str | None

    @property
    def in_store(self) -> bool:
        """Whether the store has it; else it is only known as the input of another."""
        return self.stage is not None

    def document(self) -> dict[str, Any]:
        """Its JSON."""
        return {**asdict(self), "kind": "artifact", "in_store": self.in_store}


@dataclass(frozen=True, kw_only=True)
class SourceNode:
    """A source file; the same path with another content is another node."""

    id: str
    source: SourceFile

    def document(self) -> dict[str, Any]:
        """Its JSON."""
        source = self.source
        facts = {"name": source.name, "uri": source.uri, "size_bytes": source.num_bytes, "digest": source.digest}
        return {"id": self.id, "kind": "source", **facts}


@dataclass(frozen=True, kw_only=True)
class GraphEdge:
    """Ids of what was used and what was made from it."""

    used: str
    made: str


@dataclass(frozen=True, kw_only=True)
class LineageGraph:
    """The graph of the version `ref`, with the nearest to it first."""

    ref: str
    artifacts: tuple[ArtifactNode, ...]
    sources: tuple[SourceNode, ...]
    edges: tuple[GraphEdge, ...]

    def document(self) -> dict[str, Any]:
        """The JSON of the whole graph."""
        artifacts, sources = ([node.document() for node in nodes] for nodes in (self.artifacts, self.sources))
        edges = [{"from": edge.used, "to": edge.made} for edge in self.edges]
        return {"ref": self.ref, "nodes": artifacts + sources, "edges": edges}


def build_graph(
    store: ArtifactStore, ref: ArtifactRef, edges: Sequence[LineageEdge], *, sources: bool = True
) -> LineageGraph:
    """The graph of the edges, which come from `walk_lineage` or `find_descendants`; with source files if asked."""
    refs = {str(ref): ref} | {str(known): known for edge in edges for known in (edge.output, edge.input)}
    links = [GraphEdge(used=str(edge.input), made=str(edge.output)) for edge in edges]
    nodes: dict[str, SourceNode] = {}
    for made, source in _sources_of(refs.values()) if sources else ():
        node = _source_node(source, nodes, taken=refs)
        links.append(GraphEdge(used=node.id, made=str(made)))
    return LineageGraph(
        ref=str(ref),
        artifacts=tuple(_artifact_node(store, known) for known in refs.values()),
        sources=tuple(nodes.values()),
        edges=tuple(dict.fromkeys(links)),
    )


def find_wandb(store: ArtifactStore, ref: ArtifactRef) -> WandbPin | None:
    """Where the version is on W&B, None if it is not there or its note is damaged, which `artifacts sync` tells."""
    try:
        return newest_pin(store, ref)
    except ArtifactCorrupted:
        return None


def _artifact_node(store: ArtifactStore, ref: ArtifactRef) -> ArtifactNode:
    record, pin = record_or_none(store, ref), find_wandb(store, ref)
    return ArtifactNode(
        id=str(ref),
        type=ref.type,
        digest=ref.digest,
        stage=record.producer.stage if record else None,
        run_id=record.producer.run_id if record else None,
        key_metric=key_metric(ref.metadata),
        wandb=pin.qualified_name if pin else None,
    )


def _sources_of(refs: Iterable[ArtifactRef]) -> Iterator[tuple[ArtifactRef, SourceFile]]:
    for ref in refs:
        for source in parse_sources(ref.metadata):
            yield ref, source


def _source_node(source: SourceFile, nodes: dict[str, SourceNode], *, taken: Collection[str]) -> SourceNode:
    """The source's node, new or there already; its id is its URI, with the digest where that could mean another."""
    place = source.uri if source.uri != "?" else source.name
    known = nodes.get(place)
    is_plain = place not in taken and (known is None or known.source.digest == source.digest)
    key = place if is_plain else f"{place}@{source.digest}"
    return nodes.setdefault(key, SourceNode(id=key, source=source))
