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
from nemo_runspec.errors import ArtifactNotFound, RunspecError
from nemo_runspec.mirror.follower import is_being_sent
from nemo_runspec.mirror.metrics import unsent_steps
from nemo_runspec.mirror.metrics_notes import list_notes, load_note
from nemo_runspec.mirror.pins import WandbPin, find_pin
from nemo_runspec.mirror.server import WandbServer
from nemo_runspec.mirror.target import WandbTarget
from nemo_runspec.mirror.wanted import of_producer, wanted_targets

_DAMAGE = (RunspecError, OSError)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A version that the server does not have yet in the project of `target`, the W&B run it belongs to there."""

    record: VersionRecord
    target: WandbTarget

    @property
    def ref(self) -> ArtifactRef:
        """The version."""
        return self.record.ref

    @property
    def collection(self) -> str:
        """What it will be a version of, `entity/project/name`; without the entity where that is the key's own."""
        return "/".join(filter(None, [self.target.entity, self.target.project, self.ref.name]))

    @property
    def key(self) -> str:
        """What tells it from all others that wait for the same server."""
        return f"{self.collection}:{self.ref.version}"


@dataclass(frozen=True, kw_only=True)
class Outbox:
    """`waiting` is in the order of sending: inputs before outputs, older versions of a name before newer ones.

    `mirrored` wait no more; `damaged` cannot be read. Both go from `name:vN` to where it is or why. `metrics` has what
    is on this machine and not all on the server, from `metrics of name:vN` to the W&B run; of a training that has
    published nothing it is `metrics of run ID`.
    """

    metrics: dict[str, WandbTarget] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)
    mirrored: dict[str, WandbPin] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)


def pending(store: ArtifactStore, server: WandbServer) -> list[VersionRecord]:
    """The versions that wait, in the order of sending."""
    return [waiting.record for waiting in read_outbox(store, server).waiting]


def read_outbox(store: ArtifactStore, server: WandbServer, *, only: Sequence[ArtifactRef] | None = None) -> Outbox:
    """What waits of all that is meant for the server, or of `only` these versions, with all they were made from.

    An input that is meant for no server goes where the version does that was made from it.
    """
    outbox = Outbox()
    found = _find_waiting(store, server, _names(store, only), outbox)
    if only is None:
        _find_metrics(store, server, outbox)
    outbox.waiting.extend(found[key] for key in TopologicalSorter(_sent_before(found)).static_order())
    return outbox


def find_servers(store: ArtifactStore, only: Sequence[ArtifactRef] | None = None) -> list[str]:
    """URLs of the servers for which something is meant, or one of `only` these versions."""
    found: set[str] = set()
    for name, version in _names(store, only):
        with suppress(*_DAMAGE):  # told by whoever reads the outbox
            found.update(target.server_url for target in wanted_targets(store, store.read_record(name, version)))
    for key in list_notes(store) if only is None else []:
        with suppress(*_DAMAGE):
            found.add(load_note(store, key).server_url)
    return sorted(found)


def _names(store: ArtifactStore, only: Sequence[ArtifactRef] | None) -> Iterator[tuple[str, str]]:
    if only is not None:
        return ((ref.name, ref.version) for ref in only)
    return ((name, version) for name in store.names() for version in store.version_names(name))


def _find_waiting(
    store: ArtifactStore, server: WandbServer, names: Iterator[tuple[str, str]], outbox: Outbox
) -> dict[str, Waiting]:
    """By their keys; notes in the outbox what does not wait."""
    found: dict[str, Waiting] = {}
    queue: deque[Waiting] = deque()
    for name, version in names:
        try:
            record = store.read_record(name, version)
            targets = _targets(store, record, server)
        except _DAMAGE as error:
            outbox.damaged[f"{name}:{version}"] = str(error)
            continue
        for target in targets:
            queue.append(Waiting(record=record, target=target))
            _add_metrics(outbox, f"metrics of {name}:{version}", target)
    while queue:
        waiting = queue.popleft()
        if waiting.key in found or str(waiting.ref) in outbox.damaged:
            continue
        try:
            pin = find_pin(store, waiting.ref, server, target=waiting.target)
            inputs = [] if pin else _inputs(store, waiting, server)
        except _DAMAGE as error:
            outbox.damaged[str(waiting.ref)] = str(error)
            continue
        if pin:
            outbox.mirrored[str(waiting.ref)] = pin
        else:
            found[waiting.key] = waiting
            queue.extend(inputs)
    return found


def _find_metrics(store: ArtifactStore, server: WandbServer, outbox: Outbox) -> None:
    """Add the metrics of trainings that have published nothing, unless they are being sent at this moment."""
    for key in list_notes(store):
        try:
            target = load_note(store, key)
        except _DAMAGE as error:
            outbox.damaged[key] = str(error)
            continue
        if target.server_url == server.base_url and target.metrics and not is_being_sent(Path(target.metrics)):
            _add_metrics(outbox, f"metrics of run {target.run_id}", target)


def _add_metrics(outbox: Outbox, what: str, target: WandbTarget) -> None:
    metrics = target.metrics
    if not metrics or any(known.metrics == metrics for known in outbox.metrics.values()):
        return
    try:
        if Path(metrics).is_file() and unsent_steps(Path(metrics), target):
            outbox.metrics[what] = target
    except OSError as error:
        outbox.damaged[what] = str(error)


def _inputs(store: ArtifactStore, consumer: Waiting, server: WandbServer) -> list[Waiting]:
    """What the version was made from, as far as the store has it and the server needs it."""
    inputs = []
    for ref in consumer.record.inputs:
        try:
            record = store.record(ref)
        except ArtifactNotFound:
            continue
        own = _targets(store, record, server)
        beside = [target for target in own if target.project == consumer.target.project]
        if own:
            inputs.append(Waiting(record=record, target=(beside or own)[0]))
        elif find_pin(store, ref, server) is None:
            inputs.append(Waiting(record=record, target=of_producer(record, consumer.target)))
    return inputs


def _targets(store: ArtifactStore, record: VersionRecord, server: WandbServer) -> list[WandbTarget]:
    return [target for target in wanted_targets(store, record) if target.server_url == server.base_url]


def _sent_before(found: dict[str, Waiting]) -> dict[str, list[str]]:
    """Of each what is to be sent before: its inputs, and the next older version there, for W&B's numbers."""
    keys: dict[str, list[str]] = {}
    for key, waiting in found.items():
        keys.setdefault(str(waiting.ref), []).append(key)
    before = {
        key: [needed for ref in waiting.record.inputs for needed in keys.get(str(ref), [])]
        for key, waiting in found.items()
    }
    in_order = sorted(found.values(), key=lambda waiting: (waiting.collection, int(waiting.ref.version[1:])))
    for older, newer in pairwise(in_order):
        if older.collection == newer.collection:
            before[newer.key].append(older.key)
    return before
