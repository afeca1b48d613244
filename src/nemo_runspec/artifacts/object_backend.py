"""A store behind a URL that fsspec knows: `s3://bucket/prefix`, or another whose files are created whole or not at all.

    leases/     one for each who writes or collects garbage (object_leases.py), instead of locks
    tmp/        large contents on their way in; what proves, before the store is created, that a second creation of a
                file is refused

Contents are copied to this machine before they are read (object_cache.py).
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import BinaryIO

from nemo_runspec.artifacts.backend import Algorithm, Candidate, FileStatus, Kind, object_key
from nemo_runspec.artifacts.digests import digest_file, digest_stream
from nemo_runspec.artifacts.gc_lock import scratch_name
from nemo_runspec.artifacts.object_cache import cache_folder, materialize
from nemo_runspec.artifacts.object_files import ObjectFiles
from nemo_runspec.artifacts.object_leases import Lease, LeaseTimes, hold_collecting, hold_writing, list_leases
from nemo_runspec.errors import ArtifactError

_SMALL_BYTES = 8 << 20
_HEX = "[0-9a-f]"
_CANDIDATES: tuple[tuple[Kind, str, re.Pattern[str]], ...] = (
    ("object", "objects", re.compile(rf"objects/(blake3|sha256)/{_HEX}{{2}}/{_HEX}{{2}}/{_HEX}{{64}}")),
    ("manifest", "manifests", re.compile(rf"manifests/sha256/{_HEX}{{2}}/{_HEX}{{64}}\.json")),
    ("leftover", "tmp", re.compile(r"(?s:.*)")),
)


class ObjectBackend:
    """The place that the URL names.

    Raises:
        StoreError: it names none.
    """

    path: None = None

    def __init__(self, url: str, times: LeaseTimes | None = None) -> None:
        self.files = ObjectFiles(url)
        self.times = times or LeaseTimes()
        self._collecting: Lease | None = None

    @property
    def location(self) -> str:
        return self.files.location

    def read(self, key: str) -> bytes:
        return self.files.read(key)

    def open(self, key: str) -> BinaryIO:
        return self.files.open(key)

    def status(self, key: str) -> FileStatus | None:
        return self.files.status(key)

    def list_names(self, key: str) -> list[str]:
        return self.files.list_names(key)

    @contextmanager
    def writing(self) -> Iterator[ObjectWriter]:
        with hold_writing(self.files, self.times) as lease:
            if self.status("format.json") is None:
                self.files.check_exclusive()
            yield ObjectWriter(self.files, lease)

    def materialize(self, name: str, entries: Sequence[tuple[str, str]]) -> Path:
        target = self.materialized(name)
        materialize(self.files, target, entries)
        return target

    def materialized(self, name: str) -> Path:
        return cache_folder(self.location, name)

    def object_uri(self, digest: str) -> str:
        return self.files.url(object_key(digest))

    @contextmanager
    def collecting(self, *, wait_s: float) -> Iterator[None]:
        with hold_collecting(self.files, self.times, wait_s=wait_s) as lease:
            self._collecting = lease
            try:
                yield
            finally:
                self._collecting = None

    def list_candidates(self) -> Iterator[Candidate]:
        for kind, folder, pattern in _CANDIDATES:
            for key, status in self.files.find(folder):
                if pattern.fullmatch(key):
                    yield Candidate(kind=kind, key=key, num_bytes=status.size, mtime=status.mtime)
        for lease in list_leases(self.files, own=self._collecting):
            if lease.age_s >= self.times.stale_s:
                yield Candidate(kind="leftover", key=lease.key, num_bytes=lease.num_bytes, mtime=lease.mtime)

    def delete(self, key: str, *, unless_since: float = inf) -> bool:  # noqa: ARG002 leases keep all out
        if self._collecting:
            self._collecting.check()
        self.files.delete(key)
        return True

    def writers(self) -> list[str]:
        leases = list_leases(self.files, own=None)
        return sorted({it.owner for it in leases if not it.collects and it.age_s < self.times.stale_s})


class ObjectWriter:
    """Writes while its lease holds: a process that others took for dead must not refer to what they deleted."""

    def __init__(self, files: ObjectFiles, lease: Lease) -> None:
        self._files = files
        self._lease = lease

    def create(self, key: str, content: bytes) -> bool:
        self._lease.check()
        return self._files.create(key, content)

    def put(self, key: str, content: bytes) -> None:
        self._files.put(key, content)

    def take_in(self, path: Path, algorithm: Algorithm) -> tuple[str, int]:
        if path.stat().st_size > _SMALL_BYTES:
            return self._upload(path, algorithm)
        content = path.read_bytes()
        digest = digest_stream(io.BytesIO(content), algorithm)
        # Not asked whether it is there: that takes as long, and an object that has gone bad is replaced.
        self._files.put(object_key(digest), content)
        return digest, len(content)

    def _upload(self, path: Path, algorithm: Algorithm) -> tuple[str, int]:
        before = path.stat()
        digest = digest_file(path, algorithm)
        key = object_key(digest)
        if self._files.noted_digest(key) == digest:
            _check_same(path, before)
        else:
            unfinished = f"tmp/{scratch_name()}"
            try:
                self._files.upload(path, unfinished)
                _check_same(path, before)
                self._files.copy(unfinished, key, digest=digest)
            finally:
                self._files.delete(unfinished)
        return digest, before.st_size

    def probe(self) -> None:
        self._files.check_exclusive()


def _check_same(path: Path, before: os.stat_result) -> None:
    after = path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ArtifactError(f"cannot publish {path}: it changed while it was read; publish after the last write")
