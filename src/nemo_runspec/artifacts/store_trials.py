"""What several processes do at once to find out whether a place is fit for a store. `location` is an empty place.

Each function but `trial_processes` and `trial_place` runs in a process of its own.
"""

from __future__ import annotations

import multiprocessing
import shutil
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

from nemo_runspec.artifacts.gc_lock import scratch_name
from nemo_runspec.artifacts.object_files import ObjectFiles
from nemo_runspec.artifacts.opening import open_backend
from nemo_runspec.errors import StoreError
from nemo_runspec.store_location import is_url

NUM_PROCESSES = 4
NUM_NAMES = 50
NUM_FILES = 20
WITHIN_S = 5.0
_FILE_BYTES = 256 << 10
_START_TIMEOUT_S = 60.0
_PAUSE_S = 0.005

_barrier: Barrier | None = None


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a reader saw: when each file was first there, in seconds since the epoch, and which were not whole."""

    times: dict[str, float]
    torn: list[str]


@contextmanager
def trial_place(location: str) -> Iterator[str]:
    """An empty place for a store of its own, where that store is or would be; gone afterwards.

    In a store it is under `tmp/`, so that the garbage collector finds what a killed process left.

    Raises:
        OSError: nothing can be written there.
    """
    if is_url(location):
        files = ObjectFiles(f"{location}/tmp/{scratch_name()}")
        files.check_exclusive()
        try:
            yield files.location
        finally:
            for key, _ in files.find(""):
                files.delete(key)
        return
    folder = _nearest_folder(Path(location)) / scratch_name()
    folder.mkdir()
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder)


def _nearest_folder(root: Path) -> Path:
    return next(path for path in (root / "tmp", root, *root.parents) if path.is_dir())


@contextmanager
def trial_processes() -> Iterator[ProcessPoolExecutor]:
    """Processes that start each common step at the same moment."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(NUM_PROCESSES)
    with ProcessPoolExecutor(NUM_PROCESSES, context, initializer=_set_barrier, initargs=(barrier,)) as pool:
        yield pool


def _set_barrier(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _meet() -> None:
    assert _barrier is not None
    _barrier.wait(_START_TIMEOUT_S)


def take_names(location: str) -> list[str]:
    """The names of which this process, and so no other, created the file."""
    backend = open_backend(location)
    content = uuid.uuid4().hex.encode()
    with backend.writing() as writer:
        _meet()
        taken = [str(name) for name in range(NUM_NAMES) if writer.create(f"race/{name}", content)]
    # One that says so and was overwritten has not got it.
    return [name for name in taken if backend.read(f"race/{name}") == content]


def write_files(location: str) -> dict[str, float]:
    """When each file was written, in seconds since the epoch."""
    backend, times = open_backend(location), dict[str, float]()
    with backend.writing() as writer:
        _meet()
        for name in map(str, range(NUM_FILES)):
            writer.create(f"files/{name}", _content(name))
            times[name] = time.time()
    return times


def read_files(location: str) -> Seen:
    """Read what is new again and again, at once when it is seen, until all was there or nothing new comes."""
    backend = open_backend(location)
    times, torn = dict[str, float](), list[str]()
    _meet()
    newest = time.time()
    while len(times) < NUM_FILES and time.time() < newest + WITHIN_S:
        for name in set(backend.list_names("files")) - times.keys():
            newest = times[name] = time.time()
            if backend.read(f"files/{name}") != _content(name):
                torn.append(name)
        time.sleep(_PAUSE_S)
    return Seen(times=times, torn=torn)


def _content(name: str) -> bytes:
    return name.ljust(8).encode() * (_FILE_BYTES // 8)


def try_to_collect(location: str) -> str | None:
    """Why this process may not collect garbage now; None if it may."""
    try:
        with open_backend(location).collecting(wait_s=0):
            return None
    except StoreError as error:
        return str(error)
