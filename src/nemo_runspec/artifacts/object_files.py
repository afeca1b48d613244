"""Files behind a URL, through fsspec: exclusive creation, no cached listings, and an answer within bounded time.

`memory://` lives in one process, for tests and for a look around; fsspec looks there first and then writes, so that
here a lock makes it one step. Uploads that a killed process left half done are not seen here: have the bucket abort
them after some days by a lifecycle rule.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from nemo_runspec.artifacts.backend import FileStatus
from nemo_runspec.artifacts.object_errors import ANOTHER, may_pass, says_exists, told
from nemo_runspec.errors import StoreError

if TYPE_CHECKING:
    from typing_extensions import Buffer

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
NUM_ATTEMPTS = 3
RANGE_BYTES = 8 << 20
_PAUSE_S = 0.3
_S3 = ("s3", "s3a")
_NOTE = "nemotron-digest"
# s3fs would ask for the size first, to read what is large in several parts.
_READ_AT_ONCE = {"max_concurrency": 1}
_MTIMES = ("LastModified", "mtime", "last_modified", "updated", "created")

_memory_lock = threading.Lock()


class ObjectFiles:
    """The files below `location`, a URL without a slash at the end; keys are paths below it.

    Every method may raise StoreError, and FileNotFoundError where there is no such file.

    Raises:
        StoreError: the URL names no place.
    """

    def __init__(self, location: str) -> None:
        self.location = location.rstrip("/")
        self.scheme, _, below = self.location.partition("://")
        if not below:
            raise StoreError(f"artifact store {location}: names no place; give one like s3://bucket/prefix")

    def url(self, key: str) -> str:
        """Where the file is."""
        return f"{self.location}/{key}"

    def read(self, key: str, begin: int | None = None, end: int | None = None) -> bytes:
        """The file's content, or the bytes from `begin` to before `end`."""
        with self._told(f"reading {key}"):
            options = _READ_AT_ONCE if self.scheme in _S3 and begin is None and end is None else {}
            content: bytes = self._fs.cat_file(self.url(key), start=begin, end=end, **options)
            return content

    def open(self, key: str) -> BinaryIO:
        """The file's content as a stream, fetched in parts."""
        found = self.status(key)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.url(key))
        return io.BufferedReader(_Ranges(self, key, found.size), RANGE_BYTES)

    def status(self, key: str) -> FileStatus | None:
        """Size and time of the file, None if there is none."""
        try:
            with self._told(f"looking at {key}"):
                found = self._fs.info(self.url(key))
        except FileNotFoundError:
            return None
        return _status(found) if found["type"] == "file" else None

    def list_names(self, key: str) -> list[str]:
        """Names directly below; empty if there is nothing."""
        try:
            with self._told(f"listing {key}"):
                found = self._fs.ls(self.url(key), detail=True)
        except FileNotFoundError:
            return []
        return [name for entry in found if (name := entry["name"].removesuffix("/").rpartition("/")[2])]

    def find(self, key: str) -> list[tuple[str, FileStatus]]:
        """All files at any depth below `key`, by their keys; empty if there is nothing."""
        try:
            with self._told(f"listing {key}"):
                root = self._fs._strip_protocol(self.location)
                found: Iterable[dict[str, Any]] = self._fs.find(self.url(key), detail=True).values()
        except FileNotFoundError:
            return []
        return [(entry["name"].removeprefix(f"{root}/"), _status(entry)) for entry in found]

    def put(self, key: str, content: bytes) -> None:
        """Have the file be this content, whatever is there."""
        with self._told(f"writing {key}"):
            self._fs.pipe_file(self.url(key), content)

    def upload(self, path: Path, key: str) -> None:
        """Have the file be a copy of the local one, sent in parts if it is large."""
        with self._told(f"writing {key}"):
            self._fs.put_file(str(path), self.url(key))

    def copy(self, source: str, key: str, *, digest: str) -> None:
        """Have the file be what `source` is, without sending it again, and note the digest of that at the file."""
        noted = {"Metadata": {_NOTE: digest}, "MetadataDirective": "REPLACE"} if self.scheme in _S3 else {}
        with self._told(f"writing {key}"):
            self._fs.cp_file(self.url(source), self.url(key), **noted)

    def noted_digest(self, key: str) -> str | None:
        """The digest that `copy` noted; None if something else is there, or nothing, and where nothing can be noted."""
        if self.scheme not in _S3:
            return None
        try:
            with self._told(f"looking at {key}"):
                digest: str | None = self._fs.metadata(self.url(key)).get(_NOTE)
        except FileNotFoundError:
            return None
        return digest

    def create(self, key: str, content: bytes) -> bool:
        """Make the whole content visible under `key`; False if there is a file of that name already."""
        with self._told(f"creating {key}"):
            for attempt in range(NUM_ATTEMPTS):
                try:
                    with self._exclusion():
                        self._fs_once.pipe_file(self.url(key), content, mode="create")
                    return True
                except Exception as error:
                    if says_exists(error):
                        # An earlier attempt may have been done and its answer lost.
                        return attempt > 0 and self.read(key) == content
                    if attempt == NUM_ATTEMPTS - 1 or not may_pass(error):
                        raise
                time.sleep(_PAUSE_S * 2**attempt)
        raise AssertionError("unreachable")

    def delete(self, key: str) -> None:
        """Remove the file; nothing if it is gone."""
        try:
            with self._told(f"deleting {key}"):
                self._fs.rm_file(self.url(key))
        except FileNotFoundError:
            pass

    def check_exclusive(self) -> None:
        """Raise StoreError unless a second creation of a file is refused; leaves nothing behind."""
        key = f"tmp/probe-{uuid.uuid4().hex}"
        try:
            first, second = self.create(key, b"first"), self.create(key, b"second")
            kept = self.read(key)
        finally:
            self.delete(key)
        if (first, second, kept) != (True, False, b"first"):
            raise StoreError(
                f"artifact store {self.location}: {self.scheme}:// creates a file again that is there, so that one "
                f"publisher would overwrite another's; use a server with conditional writes, {ANOTHER}"
            )

    def _told(self, doing: str) -> AbstractContextManager[None]:
        return told(self.location, doing)

    def _exclusion(self) -> AbstractContextManager[Any]:
        return _memory_lock if self.scheme == "memory" else nullcontext()

    @property
    def _fs(self) -> Any:
        return _file_system(self.scheme, num_attempts=NUM_ATTEMPTS)

    @property
    def _fs_once(self) -> Any:
        """Sends a request once: a repeated creation would find its own file and take it for another's."""
        return _file_system(self.scheme, num_attempts=1)


class _Ranges(io.RawIOBase):
    """A file, read range by range."""

    def __init__(self, files: ObjectFiles, key: str, size: int) -> None:
        self._files = files
        self._key = key
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        end = min(self._size, self._position + len(view))
        if end <= self._position:
            return 0
        content = self._files.read(self._key, self._position, end)
        view[: len(content)] = content
        self._position += len(content)
        return len(content)


def _file_system(scheme: str, *, num_attempts: int) -> Any:
    environment = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    return _new_file_system(scheme, num_attempts, os.getpid(), environment)


@lru_cache(maxsize=8)
def _new_file_system(scheme: str, num_attempts: int, pid: int, environment: tuple[tuple[str, str], ...]) -> Any:  # noqa: ARG001
    """fsspec's file system for the scheme: another after a fork, and where the credentials are others."""
    import fsspec

    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme in _S3:
        options["config_kwargs"] = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
            "retries": {"total_max_attempts": num_attempts, "mode": "standard"},
        }
    file_system = fsspec.filesystem(scheme, **options)
    if "file" in file_system.protocol:
        raise ValueError(f"{scheme}:// shows half-written files; give the directory's path")
    if scheme in _S3:
        _silence("aiobotocore", "botocore")
        file_system.retries = 1  # s3fs would repeat what botocore has repeated
    return file_system


def _silence(*names: str) -> None:
    """Have these loggers tell nothing less than warnings, unless somebody wanted them to."""
    for logger in map(logging.getLogger, names):
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)


def _status(entry: dict[str, Any]) -> FileStatus:
    times = [entry[name] for name in _MTIMES if entry.get(name)]
    mtime = times[0].timestamp() if times and isinstance(times[0], datetime) else float(times[0]) if times else 0.0
    return FileStatus(size=entry["size"], mtime=mtime)
