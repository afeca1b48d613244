"""Artifacts that others put on a W&B server: what they are, and their files; works in the helper process.

References to local files are told, not followed: whoever asked looks at those files itself.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from nemo_runspec.errors import MirrorError
from nemo_runspec.mirror.failures import explain

if TYPE_CHECKING:
    from wandb import Artifact
    from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry

OWN_MANIFEST, OWN_RECORD = "nemotron/manifest.json", "nemotron/record.json"
_OF_AN_ARTIFACT = "wandb-artifact://"
_NUM_AT_ONCE = 8
_PER_PAGE = 200
_TIMEOUT_S = 60.0
_NUM_TRIES = 5
_CHUNK_BYTES = 1 << 20


class FetchRequest(BaseModel):
    """`name` is `[entity/]project/name:selector`; its files `paths` are wanted in `directory`, none without one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    directory: Path | None = None
    paths: tuple[str, ...] = ()


class ForeignFile(BaseModel):
    """A file of an artifact; `size` in bytes where it is known, `ref` where it lies if W&B does not have it itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    size: int | None = None
    ref: str | None = None


class ForeignVersion(BaseModel):
    """An exact version: `entity/project/name:vN`, what W&B knows of it and which run logged it.

    `own_manifest` and `own_record` are the texts that a store like this one put beside the files it mirrored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    qualified_name: str
    digest: str
    type: str
    metadata: dict[str, Any]
    created: str
    run_path: str | None
    run_url: str | None
    artifact_url: str | None
    files: tuple[ForeignFile, ...]
    own_manifest: str | None = None
    own_record: str | None = None


def fetch(document: dict[str, Any]) -> dict[str, Any]:
    """The helper's task `fetch`: a `FetchRequest` in, a `ForeignVersion` out, with the files that were wanted in place.

    Raises:
        MirrorError: there is no such artifact, it may not be read, or a file is not what was uploaded.
    """
    request = FetchRequest.model_validate(document)
    with _told(request.name):
        artifact = _find(request.name)
        if request.directory is not None:
            _download(artifact, request.paths, request.directory)
            return {}
        return _describe(artifact).model_dump(mode="json")


@contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except (MirrorError, ModuleNotFoundError):
        raise
    except Exception as error:
        explained = explain(error)
        if explained.server_wide:
            raise explained from error
        text = " ".join(str(error).split()) or type(error).__name__
        raise MirrorError(
            f"W&B server {os.environ['WANDB_BASE_URL']} does not give {name}: {text}; correct the name, or ask for "
            "read access to its project"
        ) from error


def _find(name: str) -> Artifact:
    import wandb

    found: Artifact = wandb.Api().artifact(name)
    # A link, as registries have them, has a name and numbers of its own; what it leads to is kept under its own.
    return found.source_artifact


def _describe(artifact: Artifact) -> ForeignVersion:
    run = artifact.logged_by()
    entries = artifact.manifest.entries
    for path in entries:
        _check_inside(str(path))
    texts = {name: _read_text(artifact, name) for name in (OWN_MANIFEST, OWN_RECORD) if name in entries}
    return ForeignVersion(
        qualified_name=artifact.source_qualified_name,
        digest=artifact.digest,
        type=artifact.type,
        metadata=dict(artifact.metadata),
        created=artifact.created_at,
        run_path="/".join(run.path) if run else None,
        run_url=run.url if run else None,
        artifact_url=artifact.url or None,
        files=tuple(_describe_file(path, entry) for path, entry in sorted(entries.items())),
        own_manifest=texts.get(OWN_MANIFEST),
        own_record=texts.get(OWN_RECORD),
    )


def _describe_file(path: str, entry: ArtifactManifestEntry) -> ForeignFile:
    ref = None if entry.ref is None else str(entry.ref)
    # Of a file of another artifact W&B says that it has 0 bytes.
    size = None if ref is not None and ref.startswith(_OF_AN_ARTIFACT) else entry.size
    return ForeignFile(path=str(path), size=size, ref=ref)


def _check_inside(path: str) -> None:
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise MirrorError(f"{path!r}: the name of this file leads out of the artifact; ask who logged it")


def _read_text(artifact: Artifact, name: str) -> str:
    directory = Path(os.environ["WANDB_DIR"], "texts")
    _download(artifact, [name], directory)
    return Path(directory, name).read_text(encoding="utf-8")


def _download(artifact: Artifact, paths: Collection[str], directory: Path) -> None:
    entries = artifact.manifest.entries
    targets = {path: directory / path for path in paths}
    for target in targets.values():
        target.parent.mkdir(parents=True, exist_ok=True)
    uploaded = {path: target for path, target in targets.items() if entries[path].ref is None}
    if uploaded:
        _download_uploaded(artifact, uploaded)
    for path, target in targets.items():
        entry, ref = entries[path], str(entries[path].ref or "")
        if ref and not ref.startswith(_OF_AN_ARTIFACT):
            _download_reference(ref, target, etag=entry.extra.get("etag"))
            continue
        if ref:
            _download_borrowed(ref, target)
        _check_content(target, entry)


def _download_uploaded(artifact: Artifact, targets: Mapping[str, Path]) -> None:
    """By the URLs that the server gives; wandb's own download mixes files up with several at once past its cache."""
    missing = set(targets)
    with ThreadPoolExecutor(_NUM_AT_ONCE) as pool:
        running = []
        names = list(targets) if len(targets) <= _PER_PAGE else None
        for file in artifact.files(names=names, per_page=_PER_PAGE):
            if file.name in missing:
                missing.remove(file.name)
                running.append(pool.submit(_download_url, file.direct_url, targets[file.name]))
            if len(running) >= _PER_PAGE:  # the URLs of the next ones expire as well
                [each.result() for each in running]
                running.clear()
        [each.result() for each in running]
    if missing:
        raise MirrorError(f"{artifact.source_qualified_name}: W&B lists no {', '.join(sorted(missing)[:3])}")


def _download_borrowed(ref: str, target: Path) -> None:
    """A file of another artifact; wandb's own download of those needs a cache."""
    import wandb
    from wandb.sdk.lib.hashutil import hex_to_b64_id

    place = urlsplit(ref)
    owner = wandb.Api()._artifact_from_id(hex_to_b64_id(place.netloc))
    if owner is None:
        raise MirrorError(f"{ref}: W&B has that artifact no more; ask who logged this one")
    _download_uploaded(owner, {place.path.removeprefix("/"): target})


def _download_url(url: str, target: Path) -> None:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    retries = Retry(_NUM_TRIES, backoff_factor=0.5, status_forcelist=[429, 500, 502, 503, 504])
    with requests.Session() as session:
        session.mount("https://", HTTPAdapter(max_retries=retries))
        session.mount("http://", HTTPAdapter(max_retries=retries))
        with session.get(url, stream=True, timeout=_TIMEOUT_S) as answer, target.open("wb") as file:
            answer.raise_for_status()
            for chunk in answer.iter_content(_CHUNK_BYTES):
                file.write(chunk)


def _check_content(target: Path, entry: ArtifactManifestEntry) -> None:
    from wandb.sdk.lib import hashutil

    digest_file = hashutil.xxh128_file_b64 if entry.extra.get("alg") == "XXH128" else hashutil.md5_file_b64
    got = digest_file(target)
    if got != entry.digest:
        raise MirrorError(f"{entry.path}: expected the digest {entry.digest}, got {got}; fetch it again")


def _download_reference(ref: str, target: Path, *, etag: str | None) -> None:
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(ref)
    except (ImportError, ValueError) as error:
        raise MirrorError(f"{ref}: {error}; install what reads such URLs") from error
    now = files.info(path).get("ETag")
    if etag is not None and now is not None and now.strip('"') != etag.strip('"'):
        raise MirrorError(f"{ref} has changed: expected ETag {etag}, got {now}; ask who logged it")
    files.get_file(path, str(target))
