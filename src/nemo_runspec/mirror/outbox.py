"""What of a store is still to be mirrored to a W&B server: computed from records and pins, so that nothing is lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, VersionRecord
from nemo_runspec.errors import ArtifactCorrupted, ArtifactNotFound, StoreError
from nemo_runspec.mirror.metrics import unsent_steps
from nemo_runspec.mirror.pins import WandbPin, find_pin
from nemo_runspec.mirror.server import WandbServer
from nemo_runspec.mirror.target import WandbTarget
from nemo_runspec.mirror.wanted import of_producer, wanted_target


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A version that the server does not have yet, and the W&B run it belongs to."""

    record: VersionRecord
    target: WandbTarget

    @property
    def ref(self) -> ArtifactRef:
        """The version."""
        return self.record.ref


@dataclass(frozen=True, kw_only=True)
class Outbox:
    """`waiting` is in the order of sending: inputs before outputs, older versions of a name before newer ones.

    `mirrored` wait no more; `damaged` cannot be read. Both go from `name:vN` to where it is or why. `metrics` has what
    is on this machine and not all on the server, from `metrics of name:vN` to the W&B run.
    """

    metrics: dict[str, WandbTarget] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)
    mirrored: dict[str, WandbPin] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)


def pending(store: ArtifactStore, server: WandbServer) -> list[VersionRecord]:
    """The versions that wait, in the order of sending."""
    return [waiting.record for waiting in read_outbox(store, server).waiting]


def read_outbox(store: ArtifactStore, server: WandbServer, *, only: Sequence[ArtifactRef] | None = None) -> Outbox:
    """What waits of all that is meant for the server, or of `only` these, with all they were made from.

    An input that is meant for no server goes where the version does that was made from it.
    """
    outbox = Outbox()
    found = _find_waiting(store, server, _names(store, only), outbox)
    outbox.waiting.extend(found[key] for key in TopologicalSorter(_sent_before(found)).static_order())
    return outbox


def find_servers(store: ArtifactStore, only: Sequence[ArtifactRef] | None = None) -> list[str]:
    """URLs of the servers for which some version is meant, or one of `only` these."""
    found = set()
    for name, version in _names(store, only):
        with suppress(ArtifactCorrupted, StoreError):  # told by whoever reads the outbox
            target = wanted_target(store, store.read_record(name, version))
            found.add(_url(target) if target is not None else None)
    return sorted(filter(None, found))


def _names(store: ArtifactStore, only: Sequence[ArtifactRef] | None) -> Iterator[tuple[str, str]]:
    if only is not None:
        return ((ref.name, ref.version) for ref in only)
    return ((name, version) for name in store.names() for version in store.version_names(name))


def _find_waiting(
    store: ArtifactStore, server: WandbServer, names: Iterator[tuple[str, str]], outbox: Outbox
) -> dict[str, Waiting]:
    """By `name:vN`; notes in the outbox what does not wait."""
    found: dict[str, Waiting] = {}
    queue: deque[Waiting] = deque()
    for name, version in names:
        try:
            record = store.read_record(name, version)
            target = wanted_target(store, record)
        except (ArtifactCorrupted, StoreError) as error:
            outbox.damaged[f"{name}:{version}"] = str(error)
            continue
        if target is not None and _is_for(target, server):
            queue.append(Waiting(record=record, target=target))
            _add_metrics(outbox, f"metrics of {name}:{version}", target)
    while queue:
        waiting = queue.popleft()
        key = str(waiting.ref)
        if key in found or key in outbox.mirrored or key in outbox.damaged:
            continue
        try:
            pin = find_pin(store, waiting.ref, server)
            inputs = [] if pin else _inputs(store, waiting, server)
        except (ArtifactCorrupted, StoreError) as error:
            outbox.damaged[key] = str(error)
            continue
        if pin:
            outbox.mirrored[key] = pin
        else:
            found[key] = waiting
            queue.extend(inputs)
    return found


def _add_metrics(outbox: Outbox, what: str, target: WandbTarget) -> None:
    metrics = target.metrics
    known = any(target.metrics == metrics for target in outbox.metrics.values())
    if metrics and not known and Path(metrics).is_file() and unsent_steps(Path(metrics), target):
        outbox.metrics[what] = target


def _inputs(store: ArtifactStore, consumer: Waiting, server: WandbServer) -> list[Waiting]:
    """What the version was made from, as far as the store has it."""
    inputs = []
    for ref in consumer.record.inputs:
        try:
            record = store.record(ref)
        except ArtifactNotFound:
            continue
        inputs.append(Waiting(record=record, target=_target(store, record, consumer.target, server)))
    return inputs


def _target(store: ArtifactStore, record: VersionRecord, consumer: WandbTarget, server: WandbServer) -> WandbTarget:
    own = wanted_target(store, record)
    return own if own is not None and _is_for(own, server) else of_producer(record, consumer)


def _is_for(target: WandbTarget, server: WandbServer) -> bool:
    return _url(target) == server.base_url


def _url(target: WandbTarget) -> str:
    return target.base_url.rstrip("/")


def _sent_before(found: dict[str, Waiting]) -> dict[str, list[str]]:
    """Of each what is to be sent before: its inputs, and the next older version of its name, for W&B's numbers."""
    before = {key: [str(ref) for ref in waiting.record.inputs if str(ref) in found] for key, waiting in found.items()}
    in_order = sorted(found.values(), key=lambda waiting: (waiting.ref.name, int(waiting.ref.version[1:])))
    for older, newer in pairwise(in_order):
        if older.ref.name == newer.ref.name:
            before[str(newer.ref)].append(str(older.ref))
    return before
