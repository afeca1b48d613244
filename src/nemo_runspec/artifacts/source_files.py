"""The source files that a data set says it was made from, read from its metadata, which may hold any JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file or URL of a data set; `digest` is `<algorithm>:<hex>`, empty where none is known."""

    name: str
    uri: str
    num_bytes: int | None
    digest: str

    @property
    def short_digest(self) -> str:
        """The algorithm and the first 12 digits."""
        algorithm, _, digits = self.digest.rpartition(":")
        return f"{algorithm}:{digits[:12]}" if digits else ""


def parse_sources(metadata: Mapping[str, Any]) -> list[SourceFile]:
    """What stands under `source_datasets`; entries that are no objects are left out."""
    found = metadata.get("source_datasets")
    return [_parse_source(entry) for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def printable(text: object) -> str:
    """The text with `�` for all that a terminal or a browser would obey instead of showing it."""
    return "".join(char if char.isprintable() else "�" for char in str(text))


def _parse_source(entry: dict[str, Any]) -> SourceFile:
    size, digest = entry.get("size_bytes"), entry.get("sha256")
    uri = entry.get("uri")
    known = str(digest) if digest else ""
    return SourceFile(
        name=str(entry.get("name", "source")),
        uri="?" if uri is None else str(uri),
        num_bytes=size if isinstance(size, int) else None,
        digest=known if not known or ":" in known else f"sha256:{known}",
    )
