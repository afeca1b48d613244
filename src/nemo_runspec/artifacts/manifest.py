"""The files of one version: taking them in, checking them, and setting them out under their names."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from nemo_runspec.artifacts import durable
from nemo_runspec.artifacts.hashing import canonical_json, copy_and_digest, digest_bytes, digest_file
from nemo_runspec.artifacts.refs import Policy
from nemo_runspec.errors import ArtifactCorrupted, ArtifactError

NEXT_STEP = "rerun the stage that made it with --refresh"


class ManifestEntry(BaseModel):
    """One file: its name in the artifact (POSIX, relative), size in bytes, `sha256:<hex>`.

    A referenced file has its absolute path in `ref` and its modification time in `mtime_ns`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    size: int
    digest: str
    ref: str | None = None
    mtime_ns: int | None = None


class Manifest(BaseModel):
    """All files of a version in order of their names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    entries: tuple[ManifestEntry, ...]

    def to_bytes(self) -> bytes:
        """Canonical JSON, whose SHA-256 names the manifest."""
        return canonical_json(self.model_dump(mode="json", exclude_none=True))

    @property
    def content_digest(self) -> str:
        """Equal for equal files, wherever they lie."""
        return digest_bytes(canonical_json([[entry.path, entry.size, entry.digest] for entry in self.entries]))

    @property
    def original_directory(self) -> Path | None:
        """Where referenced files lie; None if the store has copies."""
        first = self.entries[0]
        return None if first.ref is None else Path(first.ref).parents[first.path.count("/")]


def object_path(root: Path, digest: str) -> Path:
    """Where the store keeps the content with this digest."""
    algorithm, _, hexadecimal = digest.partition(":")
    return root / "objects" / algorithm / hexadecimal[:2] / hexadecimal[2:4] / hexadecimal


def build_manifest(source: Path, *, policy: Policy, root: Path, scratch: Path) -> Manifest:
    """Take in a file or all files under a directory: copy them into the store or note where they lie.

    Empty directories are not kept; a link to a file counts as the file.

    Raises:
        ArtifactError: nothing there, or something that is not a readable regular file.
    """
    files = _list_files(source)
    if policy == "copy":
        entries = [_copy_in(name, path, root=root, scratch=scratch) for name, path in files]
    else:
        entries = [_refer_to(name, path) for name, path in files]
    return Manifest(entries=tuple(entries))


def _list_files(source: Path) -> list[tuple[str, Path]]:
    source = source.absolute()
    if source.is_file():
        return [(source.name, _check_readable(source))]
    if not source.is_dir():
        raise ArtifactError(f"cannot publish {source}: no such file or directory; check the script's output path")
    found: list[tuple[str, Path]] = []
    for directory, subdirectories, names in os.walk(source, onerror=_refuse_unreadable):
        for name in subdirectories:
            if Path(directory, name).is_symlink():
                raise ArtifactError(
                    f"cannot publish {Path(directory, name)}: a link to a directory; put the files there"
                )
        found += [(Path(directory, name).relative_to(source).as_posix(), Path(directory, name)) for name in names]
    if not found:
        raise ArtifactError(f"cannot publish {source}: the directory has no files; check the script's output path")
    return [(name, _check_readable(path)) for name, path in sorted(found)]


def _refuse_unreadable(error: OSError) -> None:
    raise ArtifactError(f"cannot publish {error.filename}: {error.strerror}; make it readable") from error


def _check_readable(path: Path) -> Path:
    try:
        str(path).encode("utf-8")
        regular = stat.S_ISREG(path.stat().st_mode)
    except UnicodeEncodeError as error:
        raise ArtifactError(f"cannot publish {str(path)!r}: its name is not UTF-8; rename it") from error
    except OSError as error:
        raise ArtifactError(f"cannot publish {path}: {error.strerror}; remove it or make it readable") from error
    if not regular or not os.access(path, os.R_OK):
        raise ArtifactError(f"cannot publish {path}: not a readable regular file; remove it or make it readable")
    return path


def _copy_in(name: str, path: Path, *, root: Path, scratch: Path) -> ManifestEntry:
    temporary = scratch / uuid.uuid4().hex
    digest, size = copy_and_digest(path, temporary)
    target = object_path(root, digest)
    # An object that has gone bad is replaced, so that running a stage again heals it.
    if target.is_file() and target.stat().st_size == size and digest_file(target) == digest:
        temporary.unlink()
    else:
        durable.place(temporary, target)
    return ManifestEntry(path=name, size=size, digest=digest)


def _refer_to(name: str, path: Path) -> ManifestEntry:
    before = path.stat()
    digest = digest_file(path)
    after = path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ArtifactError(f"cannot publish {path}: it changed while it was read; publish after the last write")
    return ManifestEntry(path=name, size=after.st_size, digest=digest, ref=str(path), mtime_ns=after.st_mtime_ns)


def check_entry(entry: ManifestEntry, *, artifact: str, root: Path, level: Literal["full", "stat"]) -> None:
    """Compare a file with its entry: size always; content if `full`, or if a referenced file was touched since.

    Raises:
        ArtifactCorrupted: missing, or different from what was published.
    """
    path = Path(entry.ref) if entry.ref is not None else object_path(root, entry.digest)
    status = _stat_or_none(path)
    if status is None:
        raise _corrupted(artifact, entry, path, expected=f"{entry.size} bytes", got="no such file")
    if status.st_size != entry.size:
        raise _corrupted(artifact, entry, path, expected=f"{entry.size} bytes", got=f"{status.st_size} bytes")
    touched = entry.mtime_ns is not None and entry.mtime_ns != status.st_mtime_ns
    if (level == "full" or touched) and (digest := digest_file(path)) != entry.digest:
        raise _corrupted(artifact, entry, path, expected=entry.digest, got=digest)


def _stat_or_none(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _corrupted(artifact: str, entry: ManifestEntry, path: Path, *, expected: str, got: str) -> ArtifactCorrupted:
    return ArtifactCorrupted(f"{artifact}: {entry.path}: expected {expected}, got {got} ({path}); {NEXT_STEP}")


def check_out(manifest: Manifest, target: Path, *, root: Path, scratch: Path) -> None:
    """Make `target` a directory of the files under their names, hard links to the objects where that works."""
    building = scratch / "checkout"
    for entry in manifest.entries:
        path = building / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        _link_or_copy(object_path(root, entry.digest), path)
    durable.ensure_directory(target.parent)
    try:
        building.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # Another process was faster or a file went bad. Others may read there, so no name may be gone for a moment.
        for entry in manifest.entries:
            (target / entry.path).parent.mkdir(parents=True, exist_ok=True)
            (building / entry.path).replace(target / entry.path)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def is_checked_out(manifest: Manifest, target: Path, *, root: Path) -> bool:
    """Whether each file is there and is the object itself or an untouched copy of it."""
    for entry in manifest.entries:
        there = _stat_or_none(target / entry.path)
        kept = _stat_or_none(object_path(root, entry.digest))
        if there is None or kept is None:
            return False
        if not os.path.samestat(there, kept) and (there.st_size, there.st_mtime_ns) != (kept.st_size, kept.st_mtime_ns):
            return False
    return True
