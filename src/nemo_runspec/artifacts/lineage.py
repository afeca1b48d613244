"""Where an artifact came from: edges to its inputs, and a tree for a person, down to the source files."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from nemo_runspec.artifacts.refs import ArtifactRef, VersionRecord
from nemo_runspec.artifacts.source_files import SourceFile, parse_sources, printable
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
        record = record_or_none(store, current)
        found = [LineageEdge(output=current, input=needed) for needed in (record.inputs if record else [])]
        edges += found
        queue.extend(edge.input for edge in found)
    return edges


def record_or_none(store: RecordReader, ref: ArtifactRef) -> VersionRecord | None:
    """What the store knows of the version, None where it lacks it."""
    try:
        return store.record(ref)
    except ArtifactNotFound:
        return None


def lineage_text(store: RecordReader, ref: ArtifactRef) -> str:
    """An indented tree, one line an artifact or source file; what was drawn before is not drawn out again."""
    lines: list[str] = []
    _draw(store, ref, lines=lines, seen=set(), lead="", below="")
    return "\n".join(lines)


def version_line(record: VersionRecord) -> str:
    """`name:vN  TYPE  (STAGE, RUN)`."""
    return printable(f"{record.ref}  {record.ref.type}  ({record.producer.stage}, {record.producer.run_id})")


def _draw(store: RecordReader, ref: ArtifactRef, *, lines: list[str], seen: set[str], lead: str, below: str) -> None:
    record = record_or_none(store, ref)
    if record is None:
        lines.append(lead + printable(f"{ref}  {ref.type}  (not in this store)"))
        return
    sources = parse_sources(ref.metadata)
    known = str(ref) in seen and bool(record.inputs or sources)
    lines.append(lead + version_line(record) + ("  (see above)" if known else ""))
    seen.add(str(ref))
    if known:
        return
    last = len(record.inputs) + len(sources) - 1
    for position, source in enumerate(sources):
        lines.append(f"{below}{'└── ' if position == last else '├── '}{_source_line(source)}")
    for position, needed in enumerate(record.inputs, start=len(sources)):
        branch, stem = ("└── ", "    ") if position == last else ("├── ", "│   ")
        _draw(store, needed, lines=lines, seen=seen, lead=below + branch, below=below + stem)


def _source_line(source: SourceFile) -> str:
    details = [f"{source.num_bytes} bytes"] if source.num_bytes is not None else []
    details += [source.short_digest] if source.digest else []
    suffix = f"  ({', '.join(details)})" if details else ""
    return printable(f"{source.name}: {source.uri}{suffix}")
