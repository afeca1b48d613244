"""Writes on a POSIX file system that survive a crash whole or not at all.

What is renamed or linked into place was synced first, and the directory is synced after.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nemo_runspec.artifacts.gc_lock import STALE_S, scratch_name
from nemo_runspec.errors import StoreError

_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV})


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


def link_new(temporary: Path, target: Path) -> bool:
    """Make the finished, synced file visible under the name, read-only; False if another writer has the name.

    `link(2)` does so or fails, so that of many writers one has the name and nobody sees half a file.
    """
    ensure_directory(target.parent)
    temporary.chmod(0o444)
    made = _link(temporary, target)
    if made:
        sync_directory(target.parent)
    return made


def _link(temporary: Path, target: Path) -> bool:
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
