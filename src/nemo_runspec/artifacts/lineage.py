"""Where an artifact came from: edges to its inputs, and a tree for a person, down to the source files."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from nemo_runspec.artifacts.refs import ArtifactRef, VersionRecord
from nemo_runspec.errors import ArtifactNotFound


class RecordReader(Protocol):
    """What the walk needs of a store."""

    def record(self, ref: ArtifactRef) -> VersionRecord: ...


@dataclass(frozen=True, kw_only=True)
class LineageEdge:
    """`output` was made from `input`."""

    output: ArtifactRef
    input: ArtifactRef


def walk_lineage(store: RecordReader, ref: ArtifactRef) -> list[LineageEdge]:
    """All edges above `ref`, breadth first, each once; an input that the store lacks is a root.

    Raises:
        ArtifactNotFound: `ref` itself is not in the store.
    """
    edges = [LineageEdge(output=ref, input=needed) for needed in store.record(ref).inputs]
    seen = {str(ref)}
    queue = deque(edge.input for edge in edges)
    while queue:
        current = queue.popleft()
        if str(current) in seen:
            continue
        seen.add(str(current))
        record = _record_or_none(store, current)
        found = [LineageEdge(output=current, input=needed) for needed in (record.inputs if record else [])]
        edges += found
        queue.extend(edge.input for edge in found)
    return edges


def lineage_text(store: RecordReader, ref: ArtifactRef) -> str:
    """An indented tree, one line an artifact or source file; what was drawn before is not drawn out again."""
    lines: list[str] = []
    _draw(store, ref, lines=lines, seen=set(), lead="", below="")
    return "\n".join(lines)


def _draw(store: RecordReader, ref: ArtifactRef, *, lines: list[str], seen: set[str], lead: str, below: str) -> None:
    record = _record_or_none(store, ref)
    if record is None:
        lines.append(f"{lead}{ref}  {ref.type}  (not in this store)")
        return
    sources = [source for source in ref.metadata.get("source_datasets") or [] if isinstance(source, dict)]
    known = str(ref) in seen and bool(record.inputs or sources)
    made = f"{record.producer.stage}, {record.producer.run_id}"
    lines.append(f"{lead}{ref}  {ref.type}  ({made}){'  (see above)' if known else ''}")
    seen.add(str(ref))
    if known:
        return
    last = len(record.inputs) + len(sources) - 1
    for position, source in enumerate(sources):
        lines.append(f"{below}{'└── ' if position == last else '├── '}{_source_line(source)}")
    for position, needed in enumerate(record.inputs, start=len(sources)):
        branch, stem = ("└── ", "    ") if position == last else ("├── ", "│   ")
        _draw(store, needed, lines=lines, seen=seen, lead=below + branch, below=below + stem)


def _source_line(source: dict[str, Any]) -> str:
    digest = str(source.get("sha256") or "").removeprefix("sha256:")
    details = [f"{source['size_bytes']} bytes"] if source.get("size_bytes") is not None else []
    details += [f"sha256:{digest[:12]}"] if digest else []
    suffix = f"  ({', '.join(details)})" if details else ""
    return f"{source.get('name', 'source')}: {source.get('uri', '?')}{suffix}"


def _record_or_none(store: RecordReader, ref: ArtifactRef) -> VersionRecord | None:
    try:
        return store.record(ref)
    except ArtifactNotFound:
        return None
