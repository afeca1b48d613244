"""A store in a directory of this machine's file systems, which must make hard links; NFS and Lustre do.

    checkouts/<manifest>/    contents under their names, hard links to the objects
    tmp/                     unfinished work, a directory for each who writes
    gc.lock                  shared by all who write, held alone by the garbage collector (gc_lock.py)

Nothing but damaged contents is ever rewritten, so a killed writer leaves no more than unreferenced files.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from math import inf
from pathlib import Path
from typing import BinaryIO

from nemo_runspec.artifacts import durable
from nemo_runspec.artifacts.backend import Algorithm, Candidate, FileStatus, checkout_key, object_key
from nemo_runspec.artifacts.digests import digest_like
from nemo_runspec.artifacts.gc_lock import hold_exclusive, hold_shared, list_publishers
from nemo_runspec.artifacts.hashing import copy_and_digest
from nemo_runspec.artifacts.posix_candidates import list_candidates


class PosixBackend:
    """The directory `path`, an absolute one; the first to write creates it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def location(self) -> str:
        return str(self.path)

    def read(self, key: str) -> bytes:
        return (self.path / key).read_bytes()

    def open(self, key: str) -> BinaryIO:
        return (self.path / key).open("rb")

    def status(self, key: str) -> FileStatus | None:
        found = stat_or_none(self.path / key)
        return None if found is None else FileStatus(size=found.st_size, mtime=found.st_mtime)

    def list_names(self, key: str) -> list[str]:
        path = self.path / key
        try:
            return os.listdir(path)
        except FileNotFoundError:
            if path.is_symlink():  # no empty directory: the disk behind it may be away
                raise
            return []

    @contextmanager
    def writing(self) -> Iterator[PosixWriter]:
        durable.ensure_directory(self.path)
        with hold_shared(self.path), durable.scratch_directory(self.path) as scratch:
            yield PosixWriter(self.path, scratch)

    def materialize(self, name: str, entries: Sequence[tuple[str, str]]) -> Path:
        target = self.materialized(name)
        placed = [(path, self.path / object_key(digest)) for path, digest in entries]
        if not all(_is_set_out(target / path, kept) for path, kept in placed):
            with self.writing() as writer:
                _check_out(placed, target, building=writer.scratch / "checkout")
        return target

    def materialized(self, name: str) -> Path:
        return self.path / checkout_key(name)

    def object_uri(self, digest: str) -> str:
        return (self.path / object_key(digest)).as_uri()

    def collecting(self, *, wait_s: float) -> AbstractContextManager[None]:
        return hold_exclusive(self.path, wait_s=wait_s)

    def list_candidates(self) -> Iterator[Candidate]:
        return list_candidates(self.path)

    def delete(self, key: str, *, unless_since: float = inf) -> bool:
        path = self.path / key
        there = stat_or_none(path)
        if there is not None and there.st_mtime >= unless_since:
            return False
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        return True

    def writers(self) -> list[str]:
        return list_publishers(self.path)


class PosixWriter:
    """Finishes files in `scratch`, a directory of its own, and then puts them in their places below `root`."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root = root
        self.scratch = scratch

    def create(self, key: str, content: bytes) -> bool:
        return durable.link_new(self._write(content), self.root / key)

    def put(self, key: str, content: bytes) -> None:
        durable.place(self._write(content), self.root / key)

    def take_in(self, path: Path, algorithm: Algorithm) -> tuple[str, int]:
        temporary = self._temporary()
        digest, size = copy_and_digest(path, temporary, algorithm)
        target = self.root / object_key(digest)
        # An object that has gone bad is replaced, so that running a stage again heals it.
        if target.is_file() and target.stat().st_size == size and digest_like(target, digest) == digest:
            _renew(target, temporary)
        else:
            durable.place(temporary, target)
        return digest, size

    def probe(self) -> None:
        self._write(b"x").unlink()

    def _write(self, content: bytes) -> Path:
        temporary = self._temporary()
        durable.write_new(temporary, content)
        return temporary

    def _temporary(self) -> Path:
        return self.scratch / uuid.uuid4().hex


def _renew(kept: Path, same: Path) -> None:
    """Make it as young as what was written now, for a garbage collector on a host that has locks of its own."""
    try:
        os.utime(kept)
    except (PermissionError, FileNotFoundError):  # another user's, or collected just now
        durable.place(same, kept)
    else:
        same.unlink()


def _check_out(placed: Sequence[tuple[str, Path]], target: Path, *, building: Path) -> None:
    """Make `target` a directory of the files under their names, hard links to what is kept where that works."""
    for name, kept in placed:
        path = building / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _link_or_copy(kept, path)
    durable.ensure_directory(target.parent)
    try:
        building.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # Another process was faster or a file went bad. Others may read there, so no name may be gone for a moment.
        for name, _ in placed:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (building / name).replace(target / name)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _is_set_out(path: Path, kept: Path) -> bool:
    """Whether the file is there and is what is kept itself or an untouched copy of it."""
    there, object_ = stat_or_none(path), stat_or_none(kept)
    if there is None or object_ is None:
        return False
    same_times = (there.st_size, there.st_mtime_ns) == (object_.st_size, object_.st_mtime_ns)
    return same_times or os.path.samestat(there, object_)


def stat_or_none(path: Path) -> os.stat_result | None:
    """The status of a file, None if there is none."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
