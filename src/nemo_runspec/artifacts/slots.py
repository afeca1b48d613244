"""What a script is given in a slot that it declares: the text that names an artifact, and the version that it means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nemo_runspec.artifacts.rank_answers import Ranks
from nemo_runspec.artifacts.refs import ArtifactRef
from nemo_runspec.artifacts.store import ArtifactStore
from nemo_runspec.errors import ConfigError

_KINDS = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a section"}


def read_slot(value: object, *, where: str, type_name: str = "") -> str | None:
    """The reference in the slot, None if it is empty; `where` says what slot it is.

    Raises:
        ConfigError: it is not text.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    kind = _KINDS.get(type(value), type(value).__name__)
    wanted = f", {type_name}" if type_name else ""
    raise ConfigError(f"{where} = {value!r} is {kind}; expected text, NAME:VERSION of an artifact{wanted}")


def resolve_together(root: str | Path, reference: str, expected_type: str | None = None) -> ArtifactRef:
    """As `ArtifactStore.resolve` of the store at `root`; of several ranks one asks, and all get what it found."""

    def resolve() -> dict[str, Any]:
        return ArtifactStore(root).resolve(reference, expected_type).model_dump(mode="json")

    question = f"{reference} ({expected_type or 'any type'}) in {root}"
    return ArtifactRef.model_validate(Ranks.from_environment().ask(question, resolve))


def materialize_together(root: str | Path, ref: ArtifactRef) -> Path:
    """Where the version's files are; of several ranks on machines that share the directory one sees to it."""

    def materialize() -> str:
        return str(ArtifactStore(root).materialize(ref))

    path = Path(Ranks.from_environment().ask(f"path of {ref} {ref.digest} in {root}", materialize))
    # Copies of what an object store has may be on rank 0's machine only.
    return path if path.exists() else Path(materialize())
