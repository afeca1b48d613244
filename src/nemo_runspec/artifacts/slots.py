"""What a script is given in a slot that it declares: the text that names an artifact, and the version that it means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_runspec.artifacts.rank_answers import Ranks
from nemo_runspec.artifacts.refs import ArtifactRef, parse_ref, type_fits
from nemo_runspec.artifacts.store import ArtifactStore
from nemo_runspec.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from nemo_runspec.mirror.intake import ForeignSource

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
    """As `resolve_reference` in the store at `root`; of several ranks one asks, and all get what it found."""

    def resolve() -> dict[str, Any]:
        return resolve_reference(ArtifactStore(root), reference, expected_type).model_dump(mode="json")

    question = f"{reference} ({expected_type or 'any type'}) in {root}"
    return ArtifactRef.model_validate(Ranks.from_environment().ask(question, resolve))


def materialize_together(root: str | Path, ref: ArtifactRef) -> Path:
    """Where the version's files are; of several ranks on machines that share the directory one sees to it."""

    def materialize() -> str:
        return str(ArtifactStore(root).materialize(ref))

    path = Path(Ranks.from_environment().ask(f"path of {ref} {ref.digest} in {root}", materialize))
    # Copies of what an object store has may be on rank 0's machine only.
    return path if path.exists() else Path(materialize())


def resolve_reference(
    store: ArtifactStore, reference: str, expected_type: str | None = None, *, source: ForeignSource | None = None
) -> ArtifactRef:
    """The exact version that the reference means now; one of W&B's is in the store afterwards.

    Without a `source` those are of the server that W&B's own variables name.

    Raises:
        ArtifactNotFound: the store has no such artifact.
        ArtifactCorrupted: its digest is another than the reference says.
        ArtifactError: the text is malformed, the artifact is not an `expected_type`, or W&B does not give it.
    """
    requested = parse_ref(reference)
    if not requested.is_foreign:
        return store.resolve(reference, expected_type)
    from nemo_runspec.mirror.intake import ForeignSource, take_in  # which imports this package

    ref = take_in(store, requested, source or ForeignSource.from_environment())
    requested.check_digest(ref)
    if expected_type is not None and not type_fits(ref.type, expected_type):
        raise ArtifactError(f"{reference} is a {ref.type}, expected {expected_type}; name one of that type")
    return ref
