"""What is known of the artifacts in a store, as the commands show it and as their `--json` gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, VersionRecord
from nemo_runspec.artifacts.lineage_graph import find_wandb
from nemo_runspec.artifacts.manifest import Manifest
from nemo_runspec.errors import ArtifactError

Found = TypeVar("Found")
Report = Callable[[ArtifactError], None]


@dataclass(frozen=True, kw_only=True)
class VersionFacts:
    """One version; `num_files` and `num_bytes` are None if its manifest cannot be read."""

    name: str
    version: str
    type: str
    digest: str
    policy: str
    aliases: list[str]
    stage: str
    run_id: str
    fingerprint: str
    host: str
    created: str
    inputs: list[str]
    metadata: dict[str, Any]
    num_files: int | None
    num_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class NameFacts:
    """One name: its newest version and what its aliases mean."""

    newest: VersionFacts
    num_versions: int
    aliases: dict[str, str]

    def document(self) -> dict[str, Any]:
        """The JSON of a line of `list`."""
        newest = self.newest
        return {
            "name": newest.name,
            "newest": newest.version,
            "type": newest.type,
            "num_versions": self.num_versions,
            "aliases": self.aliases,
            "stage": newest.stage,
            "run_id": newest.run_id,
            "created": newest.created,
            "num_bytes": newest.num_bytes,
        }


def load_names(store: ArtifactStore, *, report: Report) -> list[NameFacts]:
    """All names; `report` is told of each that cannot be read, and it is left out."""
    return _present(_load_or_report(partial(_load_name, store, name), report) for name in store.names())


def load_versions(store: ArtifactStore, name: str, *, report: Report) -> list[VersionFacts]:
    """All versions, oldest first; `report` is told of each that cannot be read, and it is left out."""
    aliases = store.aliases(name)
    return _present(
        _load_or_report(partial(_read_and_describe, store, name, version, aliases), report)
        for version in store.version_names(name)
    )


def load_version(store: ArtifactStore, ref: ArtifactRef) -> VersionFacts:
    """All that is known of one version, but for its files."""
    return _describe(store, store.record(ref), store.aliases(ref.name))


def where_files_are(store: ArtifactStore, record: VersionRecord, manifest: Manifest) -> str | None:
    """The directory with the files under their names; None while the store only has their contents."""
    if manifest.original_directory is not None:
        return str(manifest.original_directory)
    checkout = store.checkout_path(record.manifest)
    return str(checkout) if checkout.is_dir() else None


def version_document(store: ArtifactStore, ref: ArtifactRef) -> dict[str, Any]:
    """The JSON of `show`."""
    manifest = store.manifest(ref)
    files = [
        {"path": entry.path, "num_bytes": entry.size, "digest": entry.digest, "location": entry.ref}
        for entry in manifest.entries
    ]
    directory = where_files_are(store, store.record(ref), manifest)
    pin = find_wandb(store, ref)
    place = {"directory": directory, "wandb": pin.qualified_name if pin else None}
    return {**asdict(load_version(store, ref)), **place, "files": files}


def _load_name(store: ArtifactStore, name: str) -> NameFacts:
    aliases = store.aliases(name)
    versions = store.version_names(name)
    newest = _describe(store, store.read_record(name, versions[-1]), aliases)
    return NameFacts(newest=newest, num_versions=len(versions), aliases=aliases)


def _read_and_describe(store: ArtifactStore, name: str, version: str, aliases: dict[str, str]) -> VersionFacts:
    return _describe(store, store.read_record(name, version), aliases)


def _describe(store: ArtifactStore, record: VersionRecord, aliases: dict[str, str]) -> VersionFacts:
    ref, producer = record.ref, record.producer
    try:
        sizes = [entry.size for entry in store.manifest(ref).entries]
    except ArtifactError:
        sizes = None
    return VersionFacts(
        name=ref.name,
        version=ref.version,
        type=ref.type,
        digest=ref.digest,
        policy=record.policy,
        aliases=[alias for alias, version in aliases.items() if version == ref.version],
        stage=producer.stage,
        run_id=producer.run_id,
        fingerprint=producer.fingerprint,
        host=producer.host,
        created=producer.created,
        inputs=[str(needed) for needed in record.inputs],
        metadata=ref.metadata,
        num_files=None if sizes is None else len(sizes),
        num_bytes=None if sizes is None else sum(sizes),
    )


def _load_or_report(load: Callable[[], Found], report: Report) -> Found | None:
    try:
        return load()
    except ArtifactError as error:
        report(error)
        return None


def _present(found: Iterable[Found | None]) -> list[Found]:
    return [item for item in found if item is not None]
