"""What the helper process is told of a version to be logged: all it needs, so that it never opens the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from nemo_runspec.artifacts import ArtifactStore, VersionRecord
from nemo_runspec.artifacts.hashing import canonical_json
from nemo_runspec.artifacts.manifest import ManifestEntry
from nemo_runspec.mirror.pins import WandbPin
from nemo_runspec.mirror.target import WandbTarget

_OWN_FOLDER = "nemotron"
# wandb 0.31.0 refuses more keys at the top.
_MAX_METADATA_KEYS = 100


class Reference(BaseModel):
    """A file that is not uploaded: its name in the artifact, where it lies, its size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    uri: str
    size: int


class VersionRequest(BaseModel):
    """A version as W&B shall have it.

    `texts` are small files to be uploaded, name → content. `newer` is a later version of the same name that is there
    already and keeps `latest`. `lock` is a file that whoever logs to the server locks meanwhile, waiting for it up to
    `lock_timeout_s` seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: WandbTarget
    config: dict[str, str]
    name: str
    type: str
    metadata: dict[str, Any]
    references: tuple[Reference, ...]
    texts: dict[str, str]
    aliases: tuple[str, ...]
    inputs: tuple[WandbPin, ...]
    newer: WandbPin | None
    lock: str
    lock_timeout_s: float


def artifact_parts(store: ArtifactStore, record: VersionRecord) -> dict[str, Any]:
    """The fields of the request that tell the artifact itself: the same whenever and by whomever it is logged."""
    manifest = store.load_manifest(record)
    own = {
        "store_uri": _as_uri(store.location),
        "nemotron_ref": str(record.ref),
        "nemotron_digest": record.ref.digest,
        "nemotron_manifest": record.manifest,
    }
    if manifest.original_directory is not None:
        own["absolute_path"] = str(manifest.original_directory)
    return {
        "name": record.ref.name,
        "type": record.ref.type,
        "metadata": _shortened(record.ref.metadata, len(own)) | own,
        "references": tuple(_reference(store, entry) for entry in manifest.entries),
        "texts": _texts(record, manifest.to_bytes(), taken={entry.path for entry in manifest.entries}),
        "config": _config(record),
    }


def _reference(store: ArtifactStore, entry: ManifestEntry) -> Reference:
    uri = store.backend.object_uri(entry.digest) if entry.ref is None else _as_uri(entry.ref)
    return Reference(path=entry.path, uri=uri, size=entry.size)


def _as_uri(place: str) -> str:
    return place if "://" in place else Path(place).as_uri()


def _texts(record: VersionRecord, manifest: bytes, *, taken: set[str]) -> dict[str, str]:
    # The record makes equal contents of two versions two versions on W&B as well.
    texts = {
        f"{_OWN_FOLDER}/manifest.json": manifest.decode(),
        f"{_OWN_FOLDER}/record.json": canonical_json(record.model_dump(mode="json")).decode(),
        "metadata.json": canonical_json(record.ref.metadata).decode(),
    }
    return {name: text for name, text in texts.items() if name not in taken}


def _shortened(metadata: Mapping[str, Any], num_others: int) -> dict[str, Any]:
    """As many keys as W&B takes; all are in the uploaded metadata.json."""
    return dict(list(metadata.items())[: _MAX_METADATA_KEYS - num_others])


def _config(record: VersionRecord) -> dict[str, str]:
    producer = record.producer
    return {
        "pipeline_run": producer.run_id,
        "stage": producer.stage,
        "fingerprint": producer.fingerprint,
        "host": producer.host,
        "created": producer.created,
    }
