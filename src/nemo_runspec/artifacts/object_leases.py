"""Who writes and who deletes in a store without locks: each puts a lease there, renews it, and looks at the others'.

    leases/<host>-<pid>-<uuid>.json       somebody writes
    leases/gc-<host>-<pid>-<uuid>.json    somebody collects garbage

Each writes its own lease first and then reads all (Dekker 1965), so that of two who come together at least one sees the
other, given that the store shows what was written: S3 does since 2020. Writers go first: a collector that sees another
lease withdraws its own and tries again; a writer waits only for a collector that is at work. A lease that was not
renewed for `stale_s` is that of a dead process. Ages are differences of times that the store itself gave.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nemo_runspec.artifacts.gc_lock import scratch_name
from nemo_runspec.artifacts.hashing import canonical_json
from nemo_runspec.artifacts.object_files import ObjectFiles
from nemo_runspec.errors import StoreError

FOLDER = "leases"
_GC = "gc-"
_NAME = re.compile(rf"{FOLDER}/(?P<gc>{_GC})?(?P<host>.+)-(?P<pid>[0-9]+)-[0-9a-f]{{32}}\.json")
# Seconds that pass while the machine sleeps count too.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LeaseTimes:
    """Seconds between renewals, until a lease counts as that of a dead process, and between two looks at the others."""

    renew_s: float = 20.0
    stale_s: float = 120.0
    poll_s: float = 0.5


@dataclass(frozen=True, kw_only=True)
class FoundLease:
    """A lease that is in the store."""

    key: str
    age_s: float
    mtime: float
    num_bytes: int

    @property
    def collects(self) -> bool:
        """Whether it is a collector's."""
        return self.key.startswith(f"{FOLDER}/{_GC}")

    @property
    def owner(self) -> str:
        """`process PID on HOST`."""
        match = _NAME.fullmatch(self.key)
        return f"process {match['pid']} on {match['host']}" if match else "an unknown process"


class Lease:
    """This process's own lease, renewed by a thread while the block is open."""

    def __init__(self, files: ObjectFiles, key: str, times: LeaseTimes) -> None:
        self.key = key
        self._files = files
        self._times = times
        self._renewed = time.clock_gettime(_CLOCK)
        self._lost = False
        self._over = threading.Event()

    def check(self) -> None:
        """Raise StoreError if others may take this process for dead: it was stopped, or the store did not answer."""
        age_s = time.clock_gettime(_CLOCK) - self._renewed
        # Half the time is left for what is begun now.
        self._lost |= age_s > self._times.stale_s / 2
        if self._lost:
            raise StoreError(
                f"artifact store {self._files.location}: this process could not renew its lease for {age_s:.0f} s and "
                f"is taken for dead after {self._times.stale_s:g} s; it writes and deletes nothing more; run it again"
            )

    def renew(self) -> None:
        """Tell the others that this process lives."""
        begin = time.clock_gettime(_CLOCK)
        self._files.put(self.key, canonical_json({"renew_s": self._times.renew_s, "stale_s": self._times.stale_s}))
        self.check()
        self._renewed = begin

    def keep(self) -> None:
        """Renew it until `release`, or until others take this process for dead."""
        while not self._lost and not self._over.wait(self._times.renew_s):
            try:
                self.renew()
            except StoreError as error:
                _logger.warning("%s", error)

    def release(self) -> None:
        """End `keep`."""
        self._over.set()


@contextmanager
def hold_writing(files: ObjectFiles, times: LeaseTimes) -> Iterator[Lease]:
    """Keep collectors out of the store within the block, together with others; waits for one that is at work."""
    with _held(files, f"{FOLDER}/{scratch_name()}.json", times) as lease:
        waiting = False
        while collectors := [other for other in _list_others(files, lease, times) if other.collects]:
            if not waiting:
                _logger.info("waiting for the garbage collection of %s by %s", files.location, collectors[0].owner)
            waiting = True
            time.sleep(times.poll_s)
        yield lease


@contextmanager
def hold_collecting(files: ObjectFiles, times: LeaseTimes, *, wait_s: float) -> Iterator[Lease]:
    """Keep everybody else from writing to the store; waits up to `wait_s` seconds for those who do.

    Raises:
        StoreError: they took longer; says who.
    """
    deadline = time.monotonic() + wait_s
    while True:
        with _held(files, f"{FOLDER}/{_GC}{scratch_name()}.json", times) as lease:
            others = _list_others(files, lease, times)
            if not others:
                yield lease
                return
        if time.monotonic() >= deadline:
            raise StoreError(_still_written(files, others, times, wait_s))
        time.sleep(times.poll_s * random.uniform(0.5, 1))  # two collectors must not meet again and again


def _still_written(files: ObjectFiles, others: list[FoundLease], times: LeaseTimes, wait_s: float) -> str:
    writers = sorted({other.owner for other in others if not other.collects})
    collectors = sorted({other.owner for other in others if other.collects})
    why = (
        f"still being written by {', '.join(writers)}"
        if writers
        else f"another garbage collection is still at work, by {', '.join(collectors)}"
    )
    return (
        f"artifact store {files.location}: {why} after waiting {wait_s:g} s; nothing was deleted; wait for that "
        f"to end, or wait longer with --wait-s: a killed process is forgotten after {times.stale_s:g} s"
    )


@contextmanager
def _held(files: ObjectFiles, key: str, times: LeaseTimes) -> Iterator[Lease]:
    lease = Lease(files, key, times)
    lease.renew()
    keeper = threading.Thread(target=lease.keep, name=f"lease of {files.location}", daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        lease.release()
        keeper.join()
        try:
            files.delete(key)
        except StoreError as error:
            _logger.warning("%s; the lease is forgotten after %g s", error, times.stale_s)


def _list_others(files: ObjectFiles, lease: Lease, times: LeaseTimes) -> list[FoundLease]:
    return [found for found in list_leases(files, own=lease) if found.age_s < times.stale_s and found.key != lease.key]


def list_leases(files: ObjectFiles, *, own: Lease | None) -> list[FoundLease]:
    """All leases there are, with their ages when `own` was renewed; without it by this machine's clock, so roughly."""
    there = dict(files.find(FOLDER))
    newest = max((status.mtime for status in there.values()), default=0.0)
    own_mtime = there[own.key].mtime if own and own.key in there else newest
    now = own_mtime if own else time.time()
    return [
        FoundLease(key=key, age_s=now - status.mtime, mtime=status.mtime, num_bytes=status.size)
        for key, status in sorted(there.items())
    ]
