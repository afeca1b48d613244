"""Who may write and who may delete in a store: publishers share `gc.lock`, the garbage collector has it alone.

flock(2), so a killed process holds nothing. Publishers go first: the collector asks again and again and never makes a
publisher wait for a collector that waits itself.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nemo_runspec.errors import StoreError

LOCK_NAME = "gc.lock"

STALE_S = 24 * 3600.0
"""Older unfinished work is left over: nobody writes a version for a day without touching its directory."""
_POLL_S = 0.02
_SCRATCH = re.compile(r"(?P<host>.+)-(?P<pid>[0-9]+)-[0-9a-f]{32}")
# Lustre without `-o flock` and some FUSE file systems have no locks; the collector refuses to work there.
_NO_LOCKS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP})

_logger = logging.getLogger(__name__)


@contextmanager
def hold_shared(root: Path) -> Iterator[None]:
    """Keep the collector out of the store, together with others; waits for a collector that is at work."""
    descriptor = os.open(root / LOCK_NAME, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        _lock_shared(descriptor, root)
        yield
    finally:
        os.close(descriptor)


def _lock_shared(descriptor: int, root: Path) -> None:
    try:
        if not _try_lock(descriptor, fcntl.LOCK_SH):
            _logger.info("waiting for the garbage collection of %s to end", root)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


@contextmanager
def hold_exclusive(root: Path, *, wait_s: float) -> Iterator[None]:
    """Keep everybody else from writing to the store; waits up to `wait_s` seconds for those who do.

    Raises:
        StoreError: they took longer; says who. Or the file system has no locks.
    """
    descriptor = os.open(root / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        _lock_exclusive(descriptor, root, wait_s=wait_s)
        _check_other_hosts(root)
        yield
    finally:
        os.close(descriptor)


def _lock_exclusive(descriptor: int, root: Path, *, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    try:
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                raise StoreError(
                    f"artifact store {root}: {_who_holds(descriptor, root)} after waiting {wait_s:g} s; nothing was "
                    "deleted; wait for that to end, or wait longer with --wait-s"
                )
            time.sleep(_POLL_S)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise StoreError(
                f"artifact store {root}: this file system has no flock ({error.strerror}), so nobody can tell who "
                "publishes; nothing was deleted; mount it with locks, like Lustre with -o flock"
            ) from error
        raise


def _check_other_hosts(root: Path) -> None:
    """Refuse while another host may be writing: on Lustre's localflock or NFS's local_lock each host locks alone."""
    here = socket.gethostname()
    elsewhere = [who for who in list_publishers(root, younger_than_s=STALE_S) if not who.endswith(f" on {here}")]
    if elsewhere:
        raise StoreError(
            f"artifact store {root}: may still be written by {', '.join(elsewhere)}; nothing was deleted; wait for "
            f"that to end, or remove what it left in {root / 'tmp'} if it was killed"
        )


def _who_holds(descriptor: int, root: Path) -> str:
    if not _try_lock(descriptor, fcntl.LOCK_SH):
        return "another garbage collection is still at work"
    publishers = list_publishers(root)
    return f"still being written by {', '.join(publishers) if publishers else 'an unknown process'}"


def _try_lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def scratch_name() -> str:
    """A new name for a directory under `tmp/` that tells whose it is."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"


def list_publishers(root: Path, *, younger_than_s: float = float("inf")) -> list[str]:
    """`process PID on HOST` of those who have a directory under `tmp/`, without those of this host that are gone."""
    try:
        entries = list(os.scandir(root / "tmp"))
    except FileNotFoundError:
        return []
    newest = time.time() - younger_than_s
    names = [entry.name for entry in entries if _mtime(entry) > newest]
    owners = {(match["host"], int(match["pid"])) for name in names if (match := _SCRATCH.fullmatch(name))}
    return [f"process {pid} on {host}" for host, pid in sorted(owners) if _may_live(host, pid)]


def _mtime(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:  # it ended just now
        return float("-inf")


def _may_live(host: str, pid: int) -> bool:
    if host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
