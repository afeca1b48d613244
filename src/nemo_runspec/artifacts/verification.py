"""Comparing a version's files with what was published, and saying honestly how thoroughly that was done.

A sampled digest cannot tell a change between its parts. So a full check of such a file also computes its full digest:
the first time there is nothing to compare that with, and it is appended to the notes `attest/<manifest>` as
`{"<path in the artifact>": "<digest>"}`; from then on the file is compared with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from nemo_runspec.artifacts.backend import Backend, object_key
from nemo_runspec.artifacts.digests import default_algorithm, digest_like, digest_stream, is_sampled
from nemo_runspec.artifacts.manifest import NEXT_STEP, Manifest, ManifestEntry
from nemo_runspec.artifacts.posix_backend import stat_or_none
from nemo_runspec.artifacts.refs import VersionRecord
from nemo_runspec.errors import ArtifactCorrupted, ArtifactError, StoreError

if TYPE_CHECKING:
    from nemo_runspec.artifacts.store import ArtifactStore

Level = Literal["full", "sampled", "stat"]
Compared = Literal["full", "sampled", "size"]

# A part of a file cannot be compared with a full digest; what is this small is read whole instead.
_SMALL_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was compared of a version that showed no difference.

    Each file counts as one of `num_full`, `num_sampled`, `num_by_size`. Of the files with a sampled digest only,
    `num_attested` got their first full digest now, with nothing to compare it with yet, and `num_unattested` still have
    none; `attest_error` says why they could not be recorded.
    """

    level: Level
    num_files: int
    num_bytes: int
    num_full: int
    num_sampled: int
    num_by_size: int
    num_attested: int = 0
    num_unattested: int = 0
    attest_error: str | None = None


def check_entry(entry: ManifestEntry, *, artifact: str, backend: Backend, level: Level) -> Compared:
    """Compare a file with its entry, and return by what.

    The size always. The recorded digest if `full`, or if a referenced file was touched since, or if `sampled` and it
    is a sampled digest or one of up to 1 MiB.

    Raises:
        ArtifactCorrupted: missing, or different from what was published.
    """
    status = _stat_content(entry, backend)
    if status is None:
        raise _corrupted(artifact, entry, backend, expected=f"{entry.size} bytes", got="no such file")
    size, mtime_ns = status
    if size != entry.size:
        raise _corrupted(artifact, entry, backend, expected=f"{entry.size} bytes", got=f"{size} bytes")
    touched = entry.mtime_ns is not None and entry.mtime_ns != mtime_ns
    cheap = level == "sampled" and (is_sampled(entry.digest) or entry.size <= _SMALL_BYTES)
    if not (touched or cheap or level == "full"):
        return "size"
    _compare(entry, entry.digest, artifact=artifact, backend=backend)
    return "sampled" if is_sampled(entry.digest) else "full"


def verify_version(store: ArtifactStore, record: VersionRecord, manifest: Manifest, level: Level) -> Verification:
    """Compare every file of the version; with `full`, record full digests where there are only sampled ones.

    Raises:
        ArtifactCorrupted: says which file differs and how.
        ArtifactError: a file was written to while its first full digest was computed.
        RequirementError: a digest is of an algorithm whose package is not installed.
    """
    artifact = str(record.ref)
    ways = Counter(
        check_entry(entry, artifact=artifact, backend=store.backend, level=level) for entry in manifest.entries
    )
    sampled = [entry for entry in manifest.entries if is_sampled(entry.digest)]
    attested = _load_attested(store, record.manifest) if sampled else {}
    old = [entry for entry in sampled if entry.path in attested]
    new = [entry for entry in sampled if entry.path not in attested]
    num_upgraded, attest_error = 0, None
    if level == "full":
        for entry in old:
            _compare(entry, attested[entry.path], artifact=artifact, backend=store.backend)
        num_upgraded = len(old)
        attest_error = _attest(store, record, new, attested)
    is_attested = level == "full" and attest_error is None
    return Verification(
        level=level,
        num_files=len(manifest.entries),
        num_bytes=sum(entry.size for entry in manifest.entries),
        num_full=ways["full"] + num_upgraded,
        num_sampled=ways["sampled"] - num_upgraded,
        num_by_size=ways["size"],
        num_attested=len(new) if is_attested else 0,
        num_unattested=0 if is_attested else len(new),
        attest_error=attest_error,
    )


def _attest(
    store: ArtifactStore, record: VersionRecord, entries: Iterable[ManifestEntry], attested: dict[str, str]
) -> str | None:
    """Record the full digests of these files besides those known; why that was not possible."""
    new = {entry.path: _digest_now(entry, artifact=str(record.ref), backend=store.backend) for entry in entries}
    if not new:
        return None
    try:
        store.add_note(_attest_key(record.manifest), {**attested, **new})
    except StoreError as error:
        return str(error)
    return None


def _digest_now(entry: ManifestEntry, *, artifact: str, backend: Backend) -> str:
    before = _stat_content(entry, backend)
    with _open_content(entry, backend) as file:
        digest = digest_stream(file, default_algorithm())
    if _stat_content(entry, backend) != before:
        raise ArtifactError(
            f"{artifact}: {entry.path} changed while it was read ({_location(entry, backend)}); "
            "verify again after the last write"
        )
    return digest


def _load_attested(store: ArtifactStore, manifest: str) -> dict[str, str]:
    """The full digests of files, by their paths in the artifact, that were computed after it was published."""
    note = store.newest_note(_attest_key(manifest)) or {}
    if not all(isinstance(digest, str) for digest in note.values()):
        raise ArtifactCorrupted(
            f"{store.location}/{_attest_key(manifest)}: the newest note has no digests; remove that file"
        )
    return note


def _attest_key(manifest: str) -> str:
    return f"attest/{manifest}"


def _compare(entry: ManifestEntry, expected: str, *, artifact: str, backend: Backend) -> None:
    with _open_content(entry, backend) as file:
        got = digest_like(file, expected)
    if got != expected:
        raise _corrupted(artifact, entry, backend, expected=expected, got=got)


def _stat_content(entry: ManifestEntry, backend: Backend) -> tuple[int, int | None] | None:
    """Size in bytes, and for a referenced file its modification time in nanoseconds; None if it is not there."""
    if entry.ref is None:
        kept = backend.status(object_key(entry.digest))
        return None if kept is None else (kept.size, None)
    there = stat_or_none(Path(entry.ref))
    return None if there is None else (there.st_size, there.st_mtime_ns)


def _open_content(entry: ManifestEntry, backend: Backend) -> BinaryIO:
    return backend.open(object_key(entry.digest)) if entry.ref is None else Path(entry.ref).open("rb")


def _location(entry: ManifestEntry, backend: Backend) -> str:
    return entry.ref or f"{backend.location}/{object_key(entry.digest)}"


def _corrupted(artifact: str, entry: ManifestEntry, backend: Backend, *, expected: str, got: str) -> ArtifactCorrupted:
    where = _location(entry, backend)
    return ArtifactCorrupted(f"{artifact}: {entry.path}: expected {expected}, got {got} ({where}); {NEXT_STEP}")
