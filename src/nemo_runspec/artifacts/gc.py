"""What no version refers to: finding it, and deleting it while others may want to publish.

Versions, aliases, notes and all they refer to stay; there is no expiry. What a backend does not list as a candidate is
left alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path

from nemo_runspec.artifacts.backend import Kind, checkout_key, manifest_key, object_key
from nemo_runspec.artifacts.numbered import list_numbers
from nemo_runspec.artifacts.refs import VersionRecord
from nemo_runspec.artifacts.store import ArtifactStore
from nemo_runspec.artifacts.store_faults import store_errors
from nemo_runspec.errors import ArtifactCorrupted, ArtifactError


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """What no version refers to; `num_bytes` is what deleting all the garbage frees of it."""

    kind: Kind
    key: str
    num_bytes: int


def find_garbage(store: ArtifactStore, *, grace_s: float = 0.0) -> list[Garbage]:
    """All that no version refers to and that was written more than `grace_s` seconds ago; changes nothing.

    What is being published at this moment may be among it; what was published by the end of the call is not.

    Raises:
        ArtifactCorrupted: a version record or a manifest cannot be read, so nobody knows what it refers to.
        StoreError: a directory cannot be read.
    """
    if not store.exists():
        return []
    newest = time.time() - grace_s
    with store_errors(store.backend, "looking for garbage"):
        # In this order, what is committed between the two steps is not taken for garbage.
        candidates = list(store.backend.list_candidates())
        referenced = _mark(store)
    return [
        Garbage(kind=found.kind, key=found.key, num_bytes=found.num_bytes)
        for found in candidates
        if found.key not in referenced and (grace_s <= 0 or found.mtime < newest)
    ]


def collect_garbage(store: ArtifactStore, *, wait_s: float, grace_s: float = 0.0) -> list[Garbage]:
    """Delete what `find_garbage` finds and return it; waits up to `wait_s` seconds for those who publish.

    Whatever of it a crash leaves is garbage still. What is written meanwhile, on a host whose locks are its own, stays
    if there is a grace period.

    Raises:
        ArtifactCorrupted: as `find_garbage`; nothing was deleted.
        StoreError: somebody went on publishing, or the store cannot be written.
    """
    if not store.exists():
        return []
    with store_errors(store.backend, "deleting garbage"), store.backend.collecting(wait_s=wait_s):
        newest = time.time() - grace_s if grace_s > 0 else inf
        garbage = find_garbage(store, grace_s=grace_s)
        return [item for item in garbage if store.backend.delete(item.key, unless_since=newest)]


def linked_parts(store: ArtifactStore) -> list[Path]:
    """Parts of the store that are symbolic links, so that no garbage is looked for there."""
    names = ("objects", "manifests", "checkouts", "tmp") if store.path else ()
    return [part for name in names if (part := Path(store.location, name)).is_symlink()]


def _mark(store: ArtifactStore) -> set[str]:
    """The keys of the objects, manifests and checkouts that a version refers to."""
    referenced: set[str] = set()
    for name, numbers in _list_versions(store):
        try:
            for number in numbers:
                referenced |= _mark_version(store, store.read_record(name, f"v{number}"), known=referenced)
        except ArtifactError as error:
            raise ArtifactCorrupted(
                f"{error}; nothing was deleted: nobody can tell what that version refers to; "
                f"to give it up, move its record in {store.location}/artifacts/{name}/versions away"
            ) from error
    return referenced


def _list_versions(store: ArtifactStore) -> Iterator[tuple[str, list[int]]]:
    """All names with the numbers of their versions."""
    for name in sorted(store.backend.list_names("artifacts")):
        try:
            below = store.backend.list_names(f"artifacts/{name}")
        except NotADirectoryError:  # a file that is not the store's
            continue
        if "versions" in below:
            yield name, list_numbers(store.backend, f"artifacts/{name}/versions")


def _mark_version(store: ArtifactStore, record: VersionRecord, *, known: set[str]) -> set[str]:
    manifest = manifest_key(record.manifest)
    if manifest in known:
        return set()
    objects = {object_key(entry.digest) for entry in store.load_manifest(record).entries if entry.ref is None}
    return objects | {manifest, checkout_key(record.manifest)}
