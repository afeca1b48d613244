"""The files of an artifact of W&B on this machine: those that lie here already, as they lie, and those to fetch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nemo_runspec.artifacts.digests import digest_like
from nemo_runspec.artifacts.manifest import Manifest
from nemo_runspec.errors import ArtifactCorrupted, ArtifactNotFound
from nemo_runspec.mirror.foreign import FetchRequest, ForeignFile
from nemo_runspec.mirror.helper import Helper

_PATIENCE_S = 600.0
_SLOWEST_BYTES_PER_S = 1_000_000


def find_directory(files: Sequence[ForeignFile]) -> tuple[Path, list[str] | None] | None:
    """The directory in which all files lie under their names, and which of those there they are; None for all.

    None if there is no such directory on this machine, so that copies are needed.

    Raises:
        ArtifactCorrupted: a file there is not of its size.
    """
    places = [_find_here(file) for file in files]
    if len(places) == 1 and places[0] is not None and places[0].is_dir():
        return places[0], None
    roots = {_root_of(place, file) if place else None for place, file in zip(places, files, strict=True)}
    root = roots.pop()
    if roots or root is None:
        return None
    for file in files:
        _check_size(root / file.path, file)
    return root, [file.path for file in files]


def collect(files: Iterable[ForeignFile], name: str, directory: Path, helper: Helper) -> None:
    """Have all files in the directory under their names: links to what lies here, the others fetched.

    Raises:
        ArtifactNotFound: one lies on another machine.
        ArtifactCorrupted: one is not of its size.
        MirrorError: one cannot be fetched.
    """
    wanted = []
    for file in files:
        if not (file.ref or "").startswith("file:"):
            wanted.append(file)
            continue
        place = _find_here(file)
        if place is None or not place.is_file():
            raise ArtifactNotFound(
                f"{name}: {file.path} is at {file.ref}, which is not on this machine; run this where it is"
            )
        target = directory / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(place)
    if wanted:
        request = FetchRequest(name=name, directory=directory, paths=tuple(file.path for file in wanted))
        num_bytes = sum(file.size or 0 for file in wanted)
        helper.ask("fetch", request.model_dump(mode="json"), timeout_s=_PATIENCE_S + num_bytes / _SLOWEST_BYTES_PER_S)
    for file in files:
        _check_size(directory / file.path, file)


def check_own(manifest: Manifest, name: str, directory: Path) -> None:
    """Compare the files with the digests that the store which mirrored them put beside them.

    Raises:
        ArtifactCorrupted: one differs.
    """
    for entry in manifest.entries:
        with (directory / entry.path).open("rb") as file:
            got = digest_like(file, entry.digest)
        if got != entry.digest:
            raise ArtifactCorrupted(f"{name}: {entry.path}: expected {entry.digest}, got {got}; name another version")


def _find_here(file: ForeignFile) -> Path | None:
    """Where it lies on this machine; None if W&B or another machine has it. Not all clients quote such URLs."""
    if file.ref is None or not file.ref.startswith("file:"):
        return None
    path = urlsplit(file.ref).path
    return next((place for place in (Path(unquote(path)), Path(path)) if place.exists()), None)


def _root_of(place: Path, file: ForeignFile) -> Path | None:
    """The directory in which the place is under the file's name, if there is one."""
    parts = Path(file.path).parts
    return place.parents[len(parts) - 1] if place.parts[-len(parts) :] == parts else None


def _check_size(path: Path, file: ForeignFile) -> None:
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise ArtifactCorrupted(
            f"{file.path}: W&B says {file.size} bytes, {path.resolve()} has {size}; name another version"
        )
