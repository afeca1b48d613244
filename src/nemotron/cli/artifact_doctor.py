"""`nemotron artifacts doctor`: whether a place is fit for a store, tried out there by several processes.

What one machine cannot tell is said too: whether other machines see the same, and what a power cut leaves.
"""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import BrokenBarrierError

from nemo_runspec.artifacts import ArtifactStore, Producer, durable
from nemo_runspec.artifacts import store_trials as trials
from nemo_runspec.checks import Check, failed, not_checked, passed
from nemo_runspec.errors import RunspecError
from nemo_runspec.store_location import is_url
from nemotron.cli.project_check import file_system

ANOTHER = "set NEMOTRON_STORE to another place, on a local disk, NFS, Lustre, or s3:// with conditional writes"
NUM_PUBLICATIONS = 5


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An empty place beside the store's contents, and processes to try it with."""

    location: str
    place: str
    pool: ProcessPoolExecutor


def check_store_place(location: str) -> Iterator[Check]:
    """The checks, each as soon as it is made; leaves nothing behind."""
    try:
        with trials.trial_place(location) as place, trials.trial_processes() as pool:
            trial = Trial(location=location, place=place, pool=pool)
            for name, check in _checks(location):
                yield _make(name, check, trial)
    except (RunspecError, OSError) as error:
        said = _said(error) if isinstance(error, RunspecError) else f"{location}: {_said(error)}"
        yield failed("place", said, f"make it a place you can read and write, or {ANOTHER}")
    yield not_checked(
        "other machines",
        f"tried from {socket.gethostname()} alone, and no power was cut",
        f"run it on a compute node too: srun nemotron artifacts doctor --store {location}",
    )


def _checks(location: str) -> list[tuple[str, Callable[[Trial], Check]]]:
    of_directory = [("sync", _check_sync), ("hard links", _check_links)]
    return [
        ("place", _check_place),
        *([] if is_url(location) else of_directory),
        ("exclusive creation", _check_creation),
        ("whole files", _check_files),
        ("leases" if is_url(location) else "locks", _check_locks),
        ("speed", _check_speed),
    ]


def _make(name: str, check: Callable[[Trial], Check], trial: Trial) -> Check:
    try:
        return check(trial)
    except (RunspecError, OSError) as error:
        return failed(name, _said(error), ANOTHER)
    except BrokenBarrierError:
        return failed(name, "a process did not come to it in time", "try again when this machine has less to do")


def _said(error: Exception) -> str:
    at = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
    return str(error) if isinstance(error, RunspecError) else f"{getattr(error, 'strerror', None) or error}{at}"


def _check_place(trial: Trial) -> Check:
    if is_url(trial.location):
        where = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        at = f" at {where}" if where and trial.location.startswith("s3") else ""
    else:
        kind, mount = file_system(Path(trial.place))
        at = f", on {kind} ({mount})"
    store = ArtifactStore(trial.location)
    return passed("place", f"{trial.location}{at}: {'a store' if store.exists() else 'no store yet'}")


def _check_sync(trial: Trial) -> Check:
    path = Path(trial.place, "synced")
    begin = time.monotonic()
    durable.write_new(path, b"x")
    of_file = time.monotonic() - begin
    durable.sync_directory(path.parent)
    of_directory = time.monotonic() - begin - of_file
    return passed("sync", f"a file in {of_file * 1000:.1f} ms, its directory in {of_directory * 1000:.1f} ms")


def _check_links(trial: Trial) -> Check:
    path = Path(trial.place, "first")
    path.touch()
    path.with_name("second").hardlink_to(path)
    count = path.stat().st_nlink
    if count != 2:
        return failed("hard links", f"a file with two names has {count} by count", ANOTHER)
    return passed("hard links", "made and counted")


def _check_creation(trial: Trial) -> Check:
    tasks = [trial.pool.submit(trials.take_names, trial.place) for _ in range(trials.NUM_PROCESSES)]
    taken = [name for task in tasks for name in task.result()]
    twice = sorted({name for name in taken if taken.count(name) > 1}, key=int)
    names = f"{trials.NUM_PROCESSES} processes created {trials.NUM_NAMES} names at once"
    if twice:
        return failed("exclusive creation", f"{names}: {len(twice)} were created more than once", ANOTHER)
    if len(taken) < trials.NUM_NAMES:
        lost = trials.NUM_NAMES - len(taken)
        return failed("exclusive creation", f"{names}: {lost} are not what their creator wrote", ANOTHER)
    return passed("exclusive creation", f"{names}, each once")


def _check_files(trial: Trial) -> Check:
    writer = trial.pool.submit(trials.write_files, trial.place)
    readers = [trial.pool.submit(trials.read_files, trial.place) for _ in range(trials.NUM_PROCESSES - 1)]
    written, seen = writer.result(), [reader.result() for reader in readers]
    if torn := {name for each in seen for name in each.torn}:
        return failed("whole files", f"{len(torn)} of {len(written)} files were seen before they were whole", ANOTHER)
    missing = max(len(written.keys() - each.times.keys()) for each in seen)
    delay_s = max((at - written[name] for each in seen for name, at in each.times.items()), default=0.0)
    if missing or delay_s > trials.WITHIN_S:
        said = f"{missing} of {len(written)} new files were not seen by another process within {trials.WITHIN_S:g} s"
        return failed("whole files", said, "switch attribute caches of the mount off, or " + ANOTHER)
    shown = f"{max(delay_s, 0) * 1000:.0f} ms"
    said = f"{len(written)} new files, each whole when {len(seen)} other processes first saw it"
    return passed("whole files", f"{said}, within {shown} after the end of writing")


def _check_locks(trial: Trial) -> Check:
    name = "leases" if is_url(trial.location) else "locks"
    store = ArtifactStore(trial.place)
    with store.backend.writing():
        said = trial.pool.submit(trials.try_to_collect, trial.place).result()
    if said is None:
        return failed(name, "another process may collect garbage while this one writes", ANOTHER)
    if "still being written by" not in said:
        return failed(name, said)
    if (said := trial.pool.submit(trials.try_to_collect, trial.place).result()) is not None:
        return failed(name, said)
    return passed(name, "another process collects no garbage while this one writes, and may afterwards")


def _check_speed(trial: Trial) -> Check:
    store = ArtifactStore(trial.place)
    begin = time.monotonic()
    with store.backend.writing() as writer:
        for name in range(trials.NUM_NAMES):
            writer.create(f"speed/{name}", b"x")
    rate = trials.NUM_NAMES / (time.monotonic() - begin)
    times = [_time_publication(store) for _ in range(NUM_PUBLICATIONS)]
    shown = f"{statistics.median(times) * 1000:.0f} ms"
    return passed("speed", f"{rate:.0f} small files a second by one process; a publication takes {shown}")


def _time_publication(store: ArtifactStore) -> float:
    producer = Producer(run_id="doctor", stage="doctor", fingerprint="")
    begin = time.monotonic()
    store.publish(Path(__file__), name="doctor", type="Trial", metadata={}, producer=producer)
    return time.monotonic() - begin
