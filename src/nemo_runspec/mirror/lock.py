"""Locks of those who send to W&B, of all users of a store and on all machines that share the file system's locks."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nemo_runspec.errors import MirrorError
from nemo_runspec.mirror.server import LATER

_POLL_S = 0.1
_READ_AND_WRITE = 0o666


@contextmanager
def hold(path: Path, *, timeout_s: float) -> Iterator[None]:
    """Have the lock on the file within the block; where the file system has no locks, nobody is taken to have it.

    Raises:
        MirrorError: another process had it for `timeout_s` seconds.
        OSError: the file cannot be written.
    """
    descriptor = _open(path)
    try:
        deadline = time.monotonic() + timeout_s
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise MirrorError(f"{path}: another process still logs to W&B; wait for it, {LATER}")
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether somebody has the lock at this moment."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # nobody ever had it, or a file system without locks
        return False
    return False


def _open(path: Path) -> int:
    """Whoever may write the directory may write the file: NFS has locks for writers only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _READ_AND_WRITE)
    except FileExistsError:
        return os.open(path, os.O_RDWR)
    with suppress(OSError):  # a file system without modes
        os.fchmod(descriptor, path.parent.stat().st_mode & _READ_AND_WRITE)
    return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A file system without locks, as Lustre without -o flock: two at once may then make two versions of one.
        return True
    return True
