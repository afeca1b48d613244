"""Versions that are to be mirrored although their record does not say so: made while no mirror was asked for."""

from __future__ import annotations

from pydantic import ValidationError

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, VersionRecord
from nemo_runspec.errors import ArtifactCorrupted
from nemo_runspec.mirror.target import WandbTarget, wandb_run_id


def want(store: ArtifactStore, ref: ArtifactRef, target: WandbTarget) -> None:
    """Have the version mirrored where `target` says, under its producer's run, unless it is to be already."""
    record = store.record(ref)
    if wanted_target(store, record) is not None:
        return
    store.add_note(_key(ref), of_producer(record, target).model_dump(mode="json"))


def of_producer(record: VersionRecord, target: WandbTarget) -> WandbTarget:
    """The run of the version's producer in the project of `target`."""
    producer = record.producer
    return target.model_copy(
        update={
            "run_id": wandb_run_id(producer.run_id, producer.stage),
            "name": f"{producer.stage} {producer.run_id}",
            "group": producer.run_id,
            "job_type": producer.stage,
            "metrics": None,
        }
    )


def wanted_target(store: ArtifactStore, record: VersionRecord) -> WandbTarget | None:
    """Where the version is to be mirrored: as its record says, else as was asked for later; None if nobody did.

    Raises:
        ArtifactCorrupted: the note cannot be understood.
    """
    if record.wandb is not None:
        return record.wandb
    note = store.newest_note(_key(record.ref))
    if note is None:
        return None
    try:
        return WandbTarget.model_validate(note)
    except ValidationError as error:
        raise ArtifactCorrupted(f"{record.ref}: the note {_key(record.ref)} names no W&B run; remove it") from error


def _key(ref: ArtifactRef) -> str:
    return f"mirrors/wanted/{ref.name}/{ref.version}"
