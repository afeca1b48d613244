"""Where a version is on a W&B server: a note in the store, written once the server has it whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nemo_runspec.artifacts.refs import ArtifactRef
from nemo_runspec.artifacts.store import ArtifactStore
from nemo_runspec.errors import ArtifactCorrupted
from nemo_runspec.mirror.server import WandbServer
from nemo_runspec.mirror.target import WandbTarget


class WandbPin(BaseModel):
    """The exact version on the server: `entity/project/name:vN` with W&B's own number and digest.

    `mirrored` from this store, or `foreign`: made elsewhere and taken into this store from there. The run is that
    which logged it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: str
    qualified_name: str
    digest: str
    run_path: str | None = None
    run_url: str | None = None
    artifact_url: str | None = None
    origin: Literal["mirrored", "foreign"] = "mirrored"
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def is_in(self, target: WandbTarget) -> bool:
        """Whether it is in the target's project, in any entity where the target names none."""
        entity, project, _ = self.qualified_name.split("/")
        return project == target.project and target.entity in (None, entity)

    @property
    def collection(self) -> str:
        """`entity/project/name`."""
        return self.qualified_name.rpartition(":")[0]

    @property
    def version(self) -> str:
        """W&B's `vN`."""
        return self.qualified_name.rpartition(":")[2]


class _PinNote(WandbPin):
    """The newest pin, as the note's own fields, and those in other projects or on other servers."""

    elsewhere: tuple[WandbPin, ...] = ()


def find_pin(
    store: ArtifactStore, ref: ArtifactRef, server: WandbServer, *, target: WandbTarget | None = None
) -> WandbPin | None:
    """Where the server has the version, in the project of `target` if one is given; None if it is not known to.

    Raises:
        ArtifactCorrupted: the note cannot be understood.
    """
    pins = find_pins(store, ref, server)
    return next((pin for pin in pins if target is None or pin.is_in(target)), None)


def find_pins(store: ArtifactStore, ref: ArtifactRef, server: WandbServer) -> list[WandbPin]:
    """Where the server has the version, one a project, that which it went to last first.

    Raises:
        ArtifactCorrupted: the note cannot be understood.
    """
    return [pin for pin in _read_pins(store, ref) if pin.server == server.base_url]


def newest_pin(store: ArtifactStore, ref: ArtifactRef) -> WandbPin | None:
    """Where the version is on the server that it went to last, None if it is on none.

    Raises:
        ArtifactCorrupted: the note cannot be understood.
    """
    return next(iter(_read_pins(store, ref)), None)


def add_pin(store: ArtifactStore, ref: ArtifactRef, pin: WandbPin) -> None:
    """Remember where the pin's server has the version in the pin's project."""
    place = (pin.server, pin.collection)
    elsewhere = tuple(known for known in _read_pins(store, ref) if (known.server, known.collection) != place)
    note = _PinNote(**pin.model_dump(), elsewhere=elsewhere)
    store.add_note(_key(ref), note.model_dump(mode="json"))


def _read_pins(store: ArtifactStore, ref: ArtifactRef) -> list[WandbPin]:
    document = store.newest_note(_key(ref))
    if document is None:
        return []
    try:
        note = _PinNote.model_validate(document)
    except ValidationError as error:
        raise ArtifactCorrupted(f"{ref}: the note {_key(ref)} in {store.location} is no pin; remove it") from error
    newest = WandbPin.model_validate(note.model_dump(exclude={"elsewhere"}))
    return [newest, *note.elsewhere]


def _key(ref: ArtifactRef) -> str:
    return f"mirrors/wandb/{ref.name}/{ref.version}"
