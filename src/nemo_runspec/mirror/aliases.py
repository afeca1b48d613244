"""Aliases on a W&B server: what they should mean, and what they were last made to mean there.

The latter is a note in the store that may claim too little, never too much: what is about to be moved is struck out
first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.errors import ArtifactCorrupted
from nemo_runspec.mirror.pins import WandbPin, find_pins
from nemo_runspec.mirror.server import WandbServer

Meanings = dict[str, dict[str, str]]
"""`entity/project/name` → alias → the store's version."""


@dataclass(frozen=True, kw_only=True)
class AliasChange:
    """In `collection` the alias should mean the version, which is there as `pin`; or with None nothing any more."""

    name: str
    alias: str
    version: str | None
    collection: str
    pin: WandbPin | None

    def __str__(self) -> str:
        return f"{self.name}:{self.alias}"


def aliases_of(store: ArtifactStore, ref: ArtifactRef) -> tuple[str, ...]:
    """The aliases that mean this version."""
    return tuple(alias for alias, version in store.aliases(ref.name).items() if version == ref.version)


def find_changes(store: ArtifactStore, server: WandbServer, name: str) -> Iterator[AliasChange]:
    """What differs on the server, as far as the versions are there.

    Raises:
        ArtifactCorrupted: an alias, a pin or the note cannot be understood.
    """
    wanted = _wanted(store, server, name)
    known = _read_known(store, server, name)
    for (collection, alias), (version, pin) in wanted.items():
        if known.get(collection, {}).get(alias) != version:
            yield AliasChange(name=name, alias=alias, version=version, collection=collection, pin=pin)
    for collection, alias in [(collection, alias) for collection, meanings in known.items() for alias in meanings]:
        if (collection, alias) not in wanted:
            yield AliasChange(name=name, alias=alias, version=None, collection=collection, pin=None)


def note_change(store: ArtifactStore, server: WandbServer, change: AliasChange) -> None:
    """Remember that the server has it."""
    known = _read_known(store, server, change.name)
    meanings = {alias: version for alias, version in known.get(change.collection, {}).items() if alias != change.alias}
    if change.version is not None:
        meanings[change.alias] = change.version
    _save_known(store, server, change.name, {**known, change.collection: meanings})


def strike_out(store: ArtifactStore, server: WandbServer, name: str, aliases: Collection[str]) -> None:
    """Claim nothing of these aliases, which are about to be moved."""
    known = _read_known(store, server, name)
    kept = {
        collection: {alias: version for alias, version in meanings.items() if alias not in aliases}
        for collection, meanings in known.items()
    }
    if kept != known:
        _save_known(store, server, name, kept)


def _wanted(store: ArtifactStore, server: WandbServer, name: str) -> dict[tuple[str, str], tuple[str, WandbPin]]:
    """Collection and alias → its version, for those that the server has from here."""
    return {
        (pin.collection, alias): (version, pin)
        for alias, version in store.aliases(name).items()
        for pin in find_pins(store, store.read_record(name, version).ref, server)
        if pin.origin == "mirrored"
    }


def _read_known(store: ArtifactStore, server: WandbServer, name: str) -> Meanings:
    note = store.newest_note(_key(name)) or {}
    known = note.get(server.base_url, {})
    if not isinstance(known, dict) or not all(isinstance(meanings, dict) for meanings in known.values()):
        raise ArtifactCorrupted(f"{name}: the note {_key(name)} in {store.location} is damaged; remove it")
    return known


def _save_known(store: ArtifactStore, server: WandbServer, name: str, known: Meanings) -> None:
    note = store.newest_note(_key(name)) or {}
    store.add_note(_key(name), {**note, server.base_url: {key: kept for key, kept in known.items() if kept}})


def _key(name: str) -> str:
    return f"mirrors/wandb/{name}/aliases"
