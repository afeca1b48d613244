"""A package: which files a job gets and where they lie, as data; written as a directory or as a tar file."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import tarfile
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from nemo_runspec.errors import ConfigError


@dataclass(frozen=True)
class Symlink:
    """A link to another place of the package; `target` is relative to the link's own directory."""

    target: str


Content: TypeAlias = Path | bytes | Symlink


@dataclass(frozen=True, kw_only=True)
class Package:
    """All that travels. `script` is among `files`; `pythonpath` goes onto PYTHONPATH; every place is relative."""

    files: Mapping[PurePosixPath, Content]
    script: PurePosixPath
    pythonpath: tuple[PurePosixPath, ...]

    def __post_init__(self) -> None:
        """Raises ConfigError for a place outside the package, or a script that is not in it."""
        outside = [place for place in (*self.files, *self.pythonpath) if place.is_absolute() or ".." in place.parts]
        if outside:
            raise ConfigError(f"{outside[0]}: a package holds relative places only")
        if self.script not in self.files:
            raise ConfigError(f"{self.script}: the script is not among the {len(self.files)} files of its package")

    def num_bytes(self) -> int:
        """Size of all contents together."""
        return sum(_num_bytes(content) for content in self.files.values())


def write_package(package: Package, target: Path) -> None:
    """Write the package as the directory `target`; whole or not at all, and once: a job may be running from it."""
    if target.exists():
        return
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        partial.mkdir(parents=True)
        for place, content in package.files.items():
            _write_file(partial / place, content)
        partial.rename(target)
    except OSError:  # rename(2): somebody else was faster
        if not target.exists():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def pack_tar(package: Package, path: Path) -> Path:
    """Write the package as the tar.gz file `path` and return it; equal packages give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with ExitStack() as scope:
            raw = scope.enter_context(partial.open("wb"))
            packed = scope.enter_context(gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0))
            tar = scope.enter_context(tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT))
            for place in sorted(package.files):
                _add_to_tar(tar, str(place), package.files[place])
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _num_bytes(content: Content) -> int:
    if isinstance(content, Path):
        return content.stat().st_size
    return len(content) if isinstance(content, bytes) else 0


def _write_file(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Symlink):
        path.symlink_to(content.target)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        shutil.copy2(content, path)


def _add_to_tar(tar: tarfile.TarFile, name: str, content: Content) -> None:
    entry = tarfile.TarInfo(name)  # its owner and its time are 0 by default
    entry.mode = 0o644
    if isinstance(content, Symlink):
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, content.target, 0o777
        tar.addfile(entry)
    elif isinstance(content, bytes):
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    else:
        with content.open("rb") as file:
            status = os.fstat(file.fileno())
            entry.size = status.st_size
            entry.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
            tar.addfile(entry, file)
