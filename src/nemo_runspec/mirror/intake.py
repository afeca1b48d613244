"""Taking what others put on a W&B server into the store, where it is an artifact like any other from then on.

`entity/project/name:vN` of W&B is `wandb.<entity>.<project>.<name>:vN` in the store: the same number, under a name that
nothing made here may have. So what is there already needs no server, and of several who take the same version in at
once one does. Its pin is written first, so that it is never taken for something that is still to be sent there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, Producer, RequestedRef, VersionRecord, parse_ref
from nemo_runspec.artifacts.durable import scratch_directory
from nemo_runspec.artifacts.manifest import Manifest
from nemo_runspec.artifacts.object_cache import cache_folder
from nemo_runspec.artifacts.refs import FOREIGN_PREFIX, Policy, type_fits
from nemo_runspec.artifacts.store_faults import store_errors
from nemo_runspec.errors import ArtifactCorrupted, ArtifactError, ArtifactNotFound, MirrorError
from nemo_runspec.mirror.foreign import FetchRequest, ForeignFile, ForeignVersion
from nemo_runspec.mirror.foreign_files import check_own, collect, find_directory
from nemo_runspec.mirror.helper import Helper
from nemo_runspec.mirror.pins import WandbPin, add_pin, find_pin, find_pins
from nemo_runspec.mirror.server import LATER, WandbServer
from nemo_runspec.mirror.settings import DEFAULT_URL

Own = TypeVar("Own", bound=BaseModel)

_LOOK_TIMEOUT_S = 120.0
_MAX_NAME = 128


class NotTakenYet(ArtifactNotFound):
    """An artifact of W&B that the store does not have, where nothing may be fetched."""


@dataclass(frozen=True, kw_only=True)
class ForeignSource:
    """The server, and the entity where a reference names none; the key's default one without.

    Unless `may_fetch`, only what the store has already is found.
    """

    server: WandbServer
    entity: str | None = None
    may_fetch: bool = True


def resolve_reference(
    store: ArtifactStore, reference: str, expected_type: str | None, source: ForeignSource
) -> ArtifactRef:
    """The exact version that the reference means now; one of W&B's is in the store afterwards.

    Raises:
        ArtifactNotFound: there is no such artifact.
        ArtifactCorrupted: its digest is another than the reference says.
        ArtifactError: the text is malformed, the artifact is not an `expected_type`, or W&B does not give it.
    """
    requested = parse_ref(reference)
    if not requested.is_foreign:
        return store.resolve(reference, expected_type)
    ref = take_in(store, requested, source)
    requested.check_digest(ref)
    if expected_type is not None and not type_fits(ref.type, expected_type):
        raise ArtifactError(f"{reference} is a {ref.type}, expected {expected_type}; name one of that type")
    return ref


def take_in(
    store: ArtifactStore, requested: RequestedRef, source: ForeignSource, *, helper: Helper | None = None
) -> ArtifactRef:
    """The version in the store, fetched now unless it is there; one of the store's own that is on W&B is that itself.

    A `helper` that is open is used; else one is started if need be.

    Raises:
        NotTakenYet: it is not there, and the source may not be asked.
        ArtifactCorrupted: a file, or W&B's version, is not what it was.
        ArtifactError: W&B does not give it.
    """
    entity = requested.entity or source.entity
    if entity is not None and requested.is_exact:
        collection = f"{entity}/{requested.project}/{requested.name}"
        kept = _find_kept(store, source.server, f"{collection}:{requested.selector}")
        if kept is not None:
            return kept
    if not source.may_fetch:
        raise NotTakenYet(f"{requested} is still on W&B only; a run of the stage takes it into {store.location}")
    name = f"{entity}/{requested}" if requested.entity is None and entity is not None else str(requested)
    with _told(requested), nullcontext(helper) if helper else Helper(source.server) as working:
        working.ask("check", {}, timeout_s=_LOOK_TIMEOUT_S)  # at once, where the client would try for long
        answer = working.ask("fetch", FetchRequest(name=name).model_dump(mode="json"), timeout_s=_LOOK_TIMEOUT_S)
        version = ForeignVersion.model_validate(answer)
        there = _find_own(store, version) or _find_same(store, source.server, version)
        return there or _take(store, version, working, source.server)


@contextmanager
def _told(requested: RequestedRef) -> Iterator[None]:
    try:
        yield
    except MirrorError as error:
        raise ArtifactError(f"{requested} is one of W&B: {str(error).removesuffix(f', {LATER}')}") from error


def foreign_name(qualified_name: str, server: WandbServer) -> str:
    """What `entity/project/name:vN` of the server is called in a store, without the number."""
    entity, project, name = qualified_name.rpartition(":")[0].split("/")
    host = "" if server.base_url == DEFAULT_URL else f"{server.slug}.."
    full = f"{FOREIGN_PREFIX}{host}{_word(entity)}.{_word(project)}.{name}"
    return full if len(full) <= _MAX_NAME else f"{full[: _MAX_NAME - 17]}-{_short_digest(full)}"


def _word(text: str) -> str:
    """Without dots, so that it can be told where it ends, and what an artifact's name may not have."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", text):
        return text
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', text)}-{_short_digest(text)}"


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _find_kept(store: ArtifactStore, server: WandbServer, qualified_name: str) -> ArtifactRef | None:
    """The version that was taken from there, or sent there under the same number, if there is one."""
    name, _, version = qualified_name.rpartition("/")[2].partition(":")
    taken = foreign_name(qualified_name, server)
    for candidate in (taken, name):
        if version in store.version_names(candidate):
            ref = store.read_record(candidate, version).ref
            if any(pin.qualified_name == qualified_name for pin in find_pins(store, ref, server)):
                return ref
    return None


def _find_own(store: ArtifactStore, version: ForeignVersion) -> ArtifactRef | None:
    """The store's own version that was mirrored as this one."""
    named, digest = version.metadata.get("nemotron_ref"), version.metadata.get("nemotron_digest")
    if not isinstance(named, str) or not isinstance(digest, str):
        return None
    try:
        requested = parse_ref(named)
    except ArtifactError:
        return None
    if requested.is_foreign or requested.selector not in store.version_names(requested.name):
        return None
    ref = store.read_record(requested.name, requested.selector).ref
    return ref if ref.digest == digest else None


def _find_same(store: ArtifactStore, server: WandbServer, version: ForeignVersion) -> ArtifactRef | None:
    """The version that was taken before.

    Raises:
        ArtifactCorrupted: there is one, and it is of something else.
    """
    name, number = foreign_name(version.qualified_name, server), version.qualified_name.rpartition(":")[2]
    if number not in store.version_names(name):
        return None
    ref = store.read_record(name, number).ref
    pin = find_pin(store, ref, server)
    if pin is None or (pin.qualified_name, pin.digest) != (version.qualified_name, version.digest):
        was = f"{pin.qualified_name} with W&B's digest {pin.digest}" if pin else "from elsewhere"
        raise ArtifactCorrupted(
            f"{version.qualified_name} has W&B's digest {version.digest} now, but {ref} in {store.location} is {was}; "
            "name another version"
        )
    return ref


def _take(store: ArtifactStore, version: ForeignVersion, helper: Helper, server: WandbServer) -> ArtifactRef:
    own = _read_own(Manifest, version.own_manifest)
    files = version.files if own is None else _listed_in(own, version)
    if not files:
        raise ArtifactError(f"{version.qualified_name} has no files; name another version")
    store.check_writable()
    _pin(store, version, server)
    if in_place := find_directory(files):
        if own is not None:
            check_own(own, version.qualified_name, in_place[0])
        return _publish(store, version, server, *in_place, policy="reference")
    with store_errors(store.backend, f"taking in {version.qualified_name}"), _scratch(store) as scratch:
        collect(files, version.qualified_name, scratch, helper)
        if own is not None:
            check_own(own, version.qualified_name, scratch)
        return _publish(store, version, server, scratch, None, policy="copy")


def _read_own(kind: type[Own], text: str | None) -> Own | None:
    """What a store like this one put there; None if there is no such thing, or a file of somebody's own."""
    if text is None:
        return None
    try:
        return kind.model_validate_json(text)
    except ValidationError:
        return None


def _listed_in(own: Manifest, version: ForeignVersion) -> tuple[ForeignFile, ...]:
    names = {entry.path for entry in own.entries}
    return tuple(file for file in version.files if file.path in names)


def _pin(store: ArtifactStore, version: ForeignVersion, server: WandbServer) -> None:
    name, number = foreign_name(version.qualified_name, server), version.qualified_name.rpartition(":")[2]
    pin = WandbPin(
        server=server.base_url,
        qualified_name=version.qualified_name,
        digest=version.digest,
        run_path=version.run_path,
        run_url=version.run_url,
        artifact_url=version.artifact_url,
        origin="foreign",
    )
    add_pin(store, ArtifactRef(name=name, type=version.type, version=number, digest=""), pin)


def _publish(
    store: ArtifactStore,
    version: ForeignVersion,
    server: WandbServer,
    directory: Path,
    files: Sequence[str] | None,
    *,
    policy: Policy,
) -> ArtifactRef:
    host = urlsplit(server.base_url).netloc
    return store.publish(
        directory,
        name=foreign_name(version.qualified_name, server),
        type=version.type,
        metadata=_metadata(version),
        producer=Producer(
            run_id=version.run_path or version.qualified_name,
            stage="wandb",
            fingerprint="",
            host=host,
            created=version.created,
        ),
        policy=policy,
        version=int(version.qualified_name.rpartition(":v")[2]),
        files=files,
    )


def _metadata(version: ForeignVersion) -> dict[str, Any]:
    """As whoever made it gave it: W&B takes a part only of what is much, and has more that the mirror added."""
    own = _read_own(VersionRecord, version.own_record)
    return version.metadata if own is None else own.ref.metadata


@contextmanager
def _scratch(store: ArtifactStore) -> Iterator[Path]:
    """A directory near the store, gone afterwards; no garbage is collected meanwhile."""
    root = store.path or cache_folder(store.location, "foreign")
    with store.backend.writing(), scratch_directory(root) as scratch:
        yield scratch
