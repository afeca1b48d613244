"""Where a store's files lie: the few operations on which publishing without loss rests, one implementation a place.

Keys are POSIX paths below the root, like `artifacts/data/versions/v0.json`. A place is one that gives a file a free
name or refuses, so that of many writers one has it, and never shows half a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

Kind = Literal["object", "manifest", "checkout", "leftover"]
Algorithm = Literal["blake3", "sha256"]


@dataclass(frozen=True, kw_only=True)
class FileStatus:
    """Size in bytes, and seconds since the epoch of the last write."""

    size: int
    mtime: float


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What may be garbage, `mtime` in seconds since the epoch.

    `num_bytes` is what deleting it frees, counted once for a content that several candidates share: at the object.
    """

    kind: Kind
    key: str
    num_bytes: int
    mtime: float


class Writer(Protocol):
    """Writes to the store; no garbage is collected while it is open."""

    def create(self, key: str, content: bytes) -> bool:
        """Make the whole content visible under `key`, durably; False if there is a file of that name already."""

    def put(self, key: str, content: bytes) -> None:
        """Have `key` be this content, durably, whatever is there; for names that tell their content."""

    def take_in(self, path: Path, algorithm: Algorithm) -> tuple[str, int]:
        """Copy the file's content to `object_key(digest)` unless it is there intact; its digest and size in bytes."""

    def probe(self) -> None:
        """Write something that is gone afterwards, so that what refuses all writes is found before the work."""


class Backend(Protocol):
    """A place for a store. Every method may raise OSError; `FileNotFoundError` where there is no such file."""

    @property
    def location(self) -> str:
        """For messages and for other processes: an absolute path or a URL, without a slash at the end."""

    @property
    def path(self) -> Path | None:
        """The directory, where the store is one on this machine's file systems."""

    def read(self, key: str) -> bytes:
        """The file's content."""

    def open(self, key: str) -> BinaryIO:
        """The file's content as a stream."""

    def status(self, key: str) -> FileStatus | None:
        """Size and time of the file, None if there is none."""

    def list_names(self, key: str) -> list[str]:
        """Names directly below, files and directories alike, in no order; empty if there is nothing.

        Raises:
            NotADirectoryError: `key` or what is above it is a file, where the place has directories.
        """

    def writing(self) -> AbstractContextManager[Writer]:
        """Create the root if need be and let the block write; waits for a garbage collection that is at work."""

    def materialize(self, name: str, entries: Sequence[tuple[str, str]]) -> Path:
        """A local directory called `name` where each content (second: its digest) is under its path (first)."""

    def materialized(self, name: str) -> Path:
        """The directory that `materialize` would return; it may not be there."""

    def object_uri(self, digest: str) -> str:
        """URL of a content, `file:///…` or that of an object store, for references from elsewhere."""

    def collecting(self, *, wait_s: float) -> AbstractContextManager[None]:
        """Keep everybody from writing within the block; waits for those who do.

        Raises:
            StoreError: they took longer than `wait_s` seconds; says who.
        """

    def list_candidates(self) -> Iterator[Candidate]:
        """All that could be garbage: `objects/`, `manifests/`, `checkouts/<manifest>` and unfinished work, no more."""

    def delete(self, key: str, *, unless_since: float = inf) -> bool:
        """Remove a candidate; nothing if it is gone.

        False if it stays because it was written since `unless_since`, seconds since the epoch, by somebody whom
        `collecting` did not keep out.
        """

    def writers(self) -> list[str]:
        """Who writes at this moment, as `process PID on HOST`."""


def object_key(digest: str) -> str:
    """Where the store keeps the content with this digest, `blake3:<hex>` or `sha256:<hex>`."""
    algorithm, _, hexadecimal = digest.partition(":")
    return f"objects/{algorithm}/{hexadecimal[:2]}/{hexadecimal[2:4]}/{hexadecimal}"


def manifest_key(hexadecimal: str) -> str:
    """Where the manifest with this SHA-256 is kept."""
    return f"manifests/sha256/{hexadecimal[:2]}/{hexadecimal}.json"


def checkout_key(hexadecimal: str) -> str:
    """What a candidate is called that has the files of the manifest with this SHA-256 set out under their names."""
    return f"checkouts/{hexadecimal}"
