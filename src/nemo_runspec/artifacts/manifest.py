"""The files of one version, and taking them in."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from nemo_runspec.artifacts.backend import Algorithm, Writer
from nemo_runspec.artifacts.digests import digest_file, sampled_digest
from nemo_runspec.artifacts.hashing import canonical_json, digest_bytes
from nemo_runspec.artifacts.refs import Policy
from nemo_runspec.errors import ArtifactError

NEXT_STEP = "rerun the stage that made it with --refresh"
Manner = Literal["auto", "full", "sampled"]

_MAX_FULL_BYTES = 1 << 30


class ManifestEntry(BaseModel):
    """One file: its name in the artifact (POSIX, relative), size in bytes, digest as of digests.py.

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
        """Equal for equal files that were digested in the same manner, wherever they lie."""
        return digest_bytes(canonical_json([[entry.path, entry.size, entry.digest] for entry in self.entries]))

    @property
    def original_directory(self) -> Path | None:
        """Where referenced files lie; None if the store has copies."""
        first = self.entries[0]
        return None if first.ref is None else Path(first.ref).parents[first.path.count("/")]


def build_manifest(
    files: Sequence[tuple[str, Path]], *, policy: Policy, manner: Manner, writer: Writer, algorithm: Algorithm
) -> Manifest:
    """Take in the files of `list_files`: copy them or note where they lie.

    Raises:
        ArtifactError: one of them changes meanwhile.
    """
    if policy == "copy":
        entries = [_copy_in(name, path, writer=writer, algorithm=algorithm) for name, path in files]
    else:
        num_bytes = sum(path.stat().st_size for _, path in files)
        sampled = manner == "sampled" or (manner == "auto" and num_bytes > _MAX_FULL_BYTES)
        take_digest = partial(sampled_digest if sampled else digest_file, algorithm=algorithm)
        entries = [_refer_to(name, path, take_digest=take_digest) for name, path in files]
    return Manifest(entries=tuple(entries))


def list_files(source: Path, *, only: Collection[str] | None = None) -> list[tuple[str, Path]]:
    """Name and absolute path of a file or of all files under a directory, or `only` those named, sorted.

    Empty directories are not kept; a link to a file counts as the file.

    Raises:
        ArtifactError: nothing there, or something that is not a readable regular file.
    """
    source = source.absolute()
    if only is not None:
        return [(name, _check_readable(source / name)) for name in sorted(only)]
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


def _copy_in(name: str, path: Path, *, writer: Writer, algorithm: Algorithm) -> ManifestEntry:
    digest, size = writer.take_in(path, algorithm)
    return ManifestEntry(path=name, size=size, digest=digest)


def _refer_to(name: str, path: Path, *, take_digest: Callable[[Path], str]) -> ManifestEntry:
    before = path.stat()
    digest = take_digest(path)
    after = path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ArtifactError(f"cannot publish {path}: it changed while it was read; publish after the last write")
    return ManifestEntry(path=name, size=after.st_size, digest=digest, ref=str(path), mtime_ns=after.st_mtime_ns)
