"""Sending to a W&B server what waits in a store; the same right after each stage or for all of them later.

May be repeated, killed and run twice at once: a version counts as sent once its pin is in the store, and sending what
is there already changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.artifacts.object_cache import cache_folder
from nemo_runspec.errors import ArtifactError, MirrorError, RunspecError
from nemo_runspec.mirror.aliases import AliasChange, aliases_of, find_changes, note_change, strike_out
from nemo_runspec.mirror.helper import Helper
from nemo_runspec.mirror.lock import is_locked
from nemo_runspec.mirror.metrics import replay_metrics
from nemo_runspec.mirror.outbox import Outbox, Waiting, read_outbox
from nemo_runspec.mirror.pins import WandbPin, add_pin, find_pin
from nemo_runspec.mirror.server import WandbServer
from nemo_runspec.mirror.target import WandbTarget
from nemo_runspec.mirror.version_request import VersionRequest, artifact_parts

DEFAULT_TIMEOUT_S = 120.0
_CHECK_TIMEOUT_S = 60.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SyncReport:
    """What came of a sync.

    `synced` and `already_there` are versions, `name:vN`; `failed` has versions, aliases and metrics that were not sent,
    with the reason.
    """

    synced: dict[str, WandbPin] = field(default_factory=dict)
    already_there: dict[str, WandbPin] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def sync(
    store: ArtifactStore,
    server: WandbServer,
    *,
    only: Sequence[ArtifactRef] | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    report: Callable[[str], None] = _logger.info,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> SyncReport:
    """Send what waits, or `only` these with what they were made from; each version may take `timeout_s` seconds.

    A version that fails does not keep those from being sent that were not made from it. `report` gets a line for each.
    After a cancel, which is asked for every second, all that is left has failed.

    Raises:
        StoreError: the store cannot be read, or cannot be written and something waits.
    """
    outbox = read_outbox(store, server, only=only)
    if outbox.waiting:
        store.check_writable()  # where no pin can be kept, nothing is sent in vain
    done = SyncReport(already_there=dict(outbox.mirrored), failed=dict(outbox.damaged))
    for what, why in outbox.damaged.items():
        report(f"{what}: {why}")
    with Helper(server, is_cancelled=is_cancelled) as helper:
        sending = _Sending(
            store=store,
            server=server,
            helper=helper,
            timeout_s=timeout_s,
            report=report,
            is_cancelled=is_cancelled,
            done=done,
        )
        sending.send_all(outbox, names=_names(store, only, outbox))
    return done


def _names(store: ArtifactStore, only: Sequence[ArtifactRef] | None, outbox: Outbox) -> list[str]:
    if only is None:
        return store.names()
    return sorted({ref.name for ref in (*only, *(waiting.ref for waiting in outbox.waiting))})


@dataclass(kw_only=True)
class _Sending:
    """One sync at work; `down` is why nothing more can be sent, `checked` that the server answered since it failed."""

    store: ArtifactStore
    server: WandbServer
    helper: Helper
    timeout_s: float
    report: Callable[[str], None]
    is_cancelled: Callable[[], bool]
    done: SyncReport
    down: MirrorError | None = None
    checked: bool = False

    def send_all(self, outbox: Outbox, *, names: Collection[str]) -> None:
        """Metrics, then versions in the outbox's order, then aliases of `names`."""
        for what, target in outbox.metrics.items():
            self._try(what, partial(self._send_metrics, target))
        for waiting in outbox.waiting:
            self._try(str(waiting.ref), partial(self._send_version, waiting))
        for name in names:
            for change in self._find_changes(name):
                self._try(str(change), partial(self._send_alias, change))

    def _try(self, what: str, send: Callable[[], None]) -> None:
        """Send it, or note why not."""
        if self.down is not None:
            self.done.failed[what] = str(self.down)
            return
        try:
            if not self.checked:
                self.helper.ask("check", {}, timeout_s=_CHECK_TIMEOUT_S)
                self.checked = True
            send()
        except MirrorError as error:
            self.checked = False
            self.down = error if error.server_wide else None
            self._note_failure(what, error)
        except (RunspecError, OSError) as error:
            self._note_failure(what, error)

    def _note_failure(self, what: str, error: Exception) -> None:
        self.done.failed[what] = str(error)
        self.report(str(error) if self.down else f"{what}: {error}")

    def _send_metrics(self, target: WandbTarget) -> None:
        replay_metrics(
            target,
            Path(target.metrics or ""),
            server=self.server,
            timeout_s=self.timeout_s,
            is_cancelled=self.is_cancelled,
        )

    def _send_version(self, waiting: Waiting) -> None:
        for ref in waiting.record.inputs:
            if str(ref) in self.done.failed and find_pin(self.store, ref, self.server) is None:
                raise ArtifactError(f"not sent, since its input {ref} was not")
        ref = waiting.ref
        pin = find_pin(self.store, ref, self.server, target=waiting.target)
        if pin is not None:  # another sync was faster
            self.done.already_there[str(ref)] = pin
            return
        aliases = aliases_of(self.store, ref)
        strike_out(self.store, self.server, ref.name, aliases)
        pin = self._log(waiting, aliases)
        add_pin(self.store, ref, pin)
        for alias in aliases:
            moved = AliasChange(name=ref.name, alias=alias, version=ref.version, collection=pin.collection, pin=pin)
            note_change(self.store, self.server, moved)
        self.done.synced[str(ref)] = pin
        self.report(f"{ref} is {pin.qualified_name} on W&B{f', {pin.run_url}' if pin.run_url else ''}")

    def _log(self, waiting: Waiting, aliases: Sequence[str]) -> WandbPin:
        parts = artifact_parts(self.store, waiting.record)
        inputs = [self._find_input(ref, waiting.target) for ref in waiting.record.inputs]
        lock = _lock_path(self.store, self.server)
        if is_locked(lock):
            self.report(f"{waiting.ref}: waiting for another process that sends to {self.server.base_url}")
        while True:
            newer = self._find_newer(waiting)
            request = VersionRequest(
                target=waiting.target,
                aliases=tuple(aliases),
                inputs=tuple(pin for pin in inputs if pin is not None),
                newer=newer,
                lock=str(lock),
                lock_timeout_s=self.timeout_s * 0.8,
                **parts,
            )
            answer = self.helper.ask("log", request.model_dump(mode="json"), timeout_s=self.timeout_s)
            # Another sync may have sent a newer version meanwhile, which has lost `latest` then.
            if self._find_newer(waiting) == newer:
                break
        for name in answer["lost"]:
            self.report(f"{waiting.ref}: W&B has no {name} any more, so its use is not shown there")
        return WandbPin.model_validate(answer["pin"])

    def _find_input(self, ref: ArtifactRef, target: WandbTarget) -> WandbPin | None:
        """Where the input is on the server: in the same project, else in any other."""
        beside = find_pin(self.store, ref, self.server, target=target)
        return beside or find_pin(self.store, ref, self.server)

    def _find_newer(self, waiting: Waiting) -> WandbPin | None:
        """The newest version of the name that is there in the same project and newer than this one."""
        name, target = waiting.ref.name, waiting.target
        for version in reversed(self.store.version_names(name)):
            if int(version[1:]) <= int(waiting.ref.version[1:]):
                break
            pin = find_pin(self.store, self.store.read_record(name, version).ref, self.server, target=target)
            if pin is not None and pin.origin == "mirrored":
                return pin
        return None

    def _find_changes(self, name: str) -> list[AliasChange]:
        try:
            return list(find_changes(self.store, self.server, name))
        except (RunspecError, OSError) as error:
            self._note_failure(f"aliases of {name}", error)
            return []

    def _send_alias(self, change: AliasChange) -> None:
        pin = change.pin.model_dump(mode="json") if change.pin is not None else None
        request = {"alias": change.alias, "collection": change.collection, "pin": pin}
        self.helper.ask("alias", request, timeout_s=self.timeout_s)
        note_change(self.store, self.server, change)
        self.report(f"{change}: {change.collection} {'lacks it now' if change.pin is None else change.pin.version}")


def _lock_path(store: ArtifactStore, server: WandbServer) -> Path:
    """One for all who send from this store to this server; of a store at a URL, for those on this machine."""
    name = f"wandb-{server.slug}.lock"
    return store.path / "mirrors" / name if store.path is not None else cache_folder(store.location, name)
