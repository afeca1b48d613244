"""Versions that are to be mirrored where their record does not say so: made while nobody asked for that."""

from __future__ import annotations

from pydantic import ValidationError

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, VersionRecord
from nemo_runspec.errors import ArtifactCorrupted
from nemo_runspec.mirror.target import WandbTarget, wandb_run_id


class _WantedNote(WandbTarget):
    """The place that was asked for last, as the note's own fields, and those before."""

    elsewhere: tuple[WandbTarget, ...] = ()


def want(store: ArtifactStore, ref: ArtifactRef, target: WandbTarget) -> None:
    """Have the version mirrored where `target` says, under its producer's run, unless it is to be already."""
    record = store.record(ref)
    if any(_is_same_place(known, target) for known in wanted_targets(store, record)):
        return
    place = of_producer(record, target).model_dump()
    note = _WantedNote(**place, elsewhere=tuple(_asked_for_later(store, ref)))
    store.add_note(_key(ref), note.model_dump(mode="json"))


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


def wanted_targets(store: ArtifactStore, record: VersionRecord) -> list[WandbTarget]:
    """Where the version is to be mirrored: as its record says, then as was asked for later; empty if nobody did.

    Raises:
        ArtifactCorrupted: the note cannot be understood.
    """
    of_record = [record.wandb] if record.wandb is not None else []
    return [*of_record, *_asked_for_later(store, record.ref)]


def _asked_for_later(store: ArtifactStore, ref: ArtifactRef) -> list[WandbTarget]:
    document = store.newest_note(_key(ref))
    if document is None:
        return []
    try:
        note = _WantedNote.model_validate(document)
    except ValidationError as error:
        raise ArtifactCorrupted(f"{ref}: the note {_key(ref)} names no W&B run; remove it") from error
    return [*note.elsewhere, WandbTarget.model_validate(note.model_dump(exclude={"elsewhere"}))]


def _is_same_place(known: WandbTarget, wanted: WandbTarget) -> bool:
    """Whether what goes to the one is where the other wants it; any entity will do where none is named."""
    return (known.server_url, known.project) == (wanted.server_url, wanted.project) and (
        wanted.entity in (None, known.entity)
    )


def _key(ref: ArtifactRef) -> str:
    return f"mirrors/wanted/{ref.name}/{ref.version}"
