"""Writes that survive a crash whole or not at all, and the store's own errors told in one line.

POSIX: what is renamed or linked into place was synced first, and the directory is synced after.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nemo_runspec.artifacts.gc_lock import STALE_S, scratch_name
from nemo_runspec.errors import RunspecError, StoreError

_NUMBERED = re.compile(r"v(0|[1-9][0-9]*)\.json")
_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV})


@contextmanager
def store_errors(root: Path, doing: str) -> Iterator[None]:
    """Turn any `OSError` of the block into a `StoreError` that says what could not be done."""
    try:
        yield
    except RunspecError:
        raise
    except OSError as error:
        raise StoreError(_describe(error, root=root, doing=doing)) from error


def _describe(error: OSError, *, root: Path, doing: str) -> str:
    at = f" ({error.filename})" if error.filename and str(error.filename) != str(root) else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(next(path for path in (root, *root.parents) if path.exists())).free
        return (
            f"artifact store {root}: disk full while {doing}{at}: {free} bytes free; nothing was published; "
            "free some space or set NEMOTRON_STORE to a directory on another disk"
        )
    return (
        f"artifact store {root}: {doing} failed{at}: {error.strerror or error}; "
        "make it a directory you can read and write, or set NEMOTRON_STORE to one"
    )


@contextmanager
def scratch_directory(root: Path) -> Iterator[Path]:
    """A new directory under `tmp/`, gone afterwards; what killed processes left there a day ago goes too."""
    parent = root / "tmp"
    ensure_directory(parent)
    _sweep(parent)
    path = parent / scratch_name()
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _sweep(parent: Path) -> None:
    for entry in parent.iterdir():
        with suppress(OSError):
            if time.time() - entry.stat().st_mtime > STALE_S:
                shutil.rmtree(entry, ignore_errors=True)


def ensure_directory(path: Path) -> None:
    """Create the directory and its parents, durably; nothing if it is there."""
    if path.is_dir():
        return
    ensure_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the directory's entries survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_new(path: Path, content: bytes) -> None:
    """Write a new file, synced."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def place(temporary: Path, target: Path) -> None:
    """Move the finished, synced file to where it is looked for, read-only, replacing what is there."""
    ensure_directory(target.parent)
    temporary.chmod(0o444)
    temporary.replace(target)
    sync_directory(target.parent)


def list_numbers(directory: Path) -> list[int]:
    """The N of all `vN.json` in ascending order; empty if there is no such directory."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for name in names if (match := _NUMBERED.fullmatch(name)))


def commit_next(directory: Path, render: Callable[[int], bytes], *, scratch: Path) -> int:
    """Write `render(N)` as `vN.json` for the first free N, and return N.

    `link(2)` either makes the finished file visible under a free name or fails, so that of many writers each gets
    a number of its own and none sees half a file.
    """
    ensure_directory(directory)
    number = max(list_numbers(directory), default=-1) + 1
    while True:
        temporary = scratch / uuid.uuid4().hex
        write_new(temporary, render(number))
        temporary.chmod(0o444)
        if _link(temporary, directory / f"v{number}.json"):
            sync_directory(directory)
            return number
        number += 1


def _link(temporary: Path, target: Path) -> bool:
    """Whether the link was made; False if another writer has the name."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        # open(2): on NFS the reply may be lost and the retry then finds its own link.
        return temporary.stat().st_nlink == 2
    except OSError as error:
        if error.errno in _NO_LINKS:
            raise StoreError(
                f"artifact store {target.parent}: this file system makes no hard links ({error.strerror}); "
                "set NEMOTRON_STORE to a directory on one that does, like ext4, xfs, NFS or Lustre"
            ) from error
        raise
    return True
