"""What was made from an artifact: the way down, where lineage.py goes up."""

from __future__ import annotations

from collections import defaultdict

from nemo_runspec.artifacts.lineage import LineageEdge, version_line
from nemo_runspec.artifacts.refs import ArtifactRef, VersionRecord
from nemo_runspec.artifacts.store import ArtifactStore

Made = dict[str, list[VersionRecord]]


def find_descendants(store: ArtifactStore, ref: ArtifactRef) -> list[LineageEdge]:
    """All edges below `ref`, breadth first, each once; reads every record of the store."""
    made = _index_inputs(store)
    edges: list[LineageEdge] = []
    queue, seen = [ref], {str(ref)}
    for current in queue:
        for record in made.get(str(current), []):
            edges.append(LineageEdge(output=record.ref, input=current))
            if str(record.ref) not in seen:
                seen.add(str(record.ref))
                queue.append(record.ref)
    return edges


def descendants_text(store: ArtifactStore, ref: ArtifactRef) -> str:
    """An indented tree, one line a version; what was drawn before is not drawn out again."""
    lines = [version_line(store.record(ref))]
    _draw_below(_index_inputs(store), ref, lines=lines, seen={str(ref)}, stem="")
    return "\n".join(lines)


def _index_inputs(store: ArtifactStore) -> Made:
    """`name:vN` → the records of what was made from it."""
    made: Made = defaultdict(list)
    for name in store.names():
        for version in store.version_names(name):
            record = store.read_record(name, version)
            for needed in record.inputs:
                made[str(needed)].append(record)
    return made


def _draw_below(made: Made, ref: ArtifactRef, *, lines: list[str], seen: set[str], stem: str) -> None:
    records = made.get(str(ref), [])
    for record in records:
        is_last = record is records[-1]
        known = str(record.ref) in seen and str(record.ref) in made
        seen.add(str(record.ref))
        lines.append(f"{stem}{'└── ' if is_last else '├── '}{version_line(record)}{'  (see above)' if known else ''}")
        if not known:
            _draw_below(made, record.ref, lines=lines, seen=seen, stem=stem + ("    " if is_last else "│   "))
