"""What no version refers to: finding it, and deleting it while others may want to publish.

Versions, aliases and all they refer to stay; there is no expiry. Nothing that a symbolic link leads to is looked at or
deleted, and files that do not look like the store's own are left alone, except in `tmp/`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nemo_runspec.artifacts import durable
from nemo_runspec.artifacts.gc_lock import hold_exclusive
from nemo_runspec.artifacts.manifest import object_path
from nemo_runspec.artifacts.refs import VersionRecord
from nemo_runspec.artifacts.store import ArtifactStore
from nemo_runspec.errors import ArtifactCorrupted, ArtifactError

Kind = Literal["object", "manifest", "checkout", "leftover"]

_PAIR = r"[0-9a-f]{2}"
_HEX = r"[0-9a-f]{64}"


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """A file or directory that no version refers to.

    `num_bytes` is what deleting all the garbage frees of it: a file with another link outside of it counts nothing.
    """

    kind: Kind
    path: Path
    num_bytes: int


def find_garbage(store: ArtifactStore) -> list[Garbage]:
    """All that no version refers to, by kind and path; changes nothing.

    What is being published at this moment may be among it; what was published by the end of the call is not.

    Raises:
        ArtifactCorrupted: a version record or a manifest cannot be read, so nobody knows what it refers to.
        StoreError: a directory cannot be read.
    """
    if not store.exists():
        return []
    with durable.store_errors(store.root, "looking for garbage"):
        # In this order, what is committed between the two steps is not taken for garbage.
        candidates = _list_candidates(store.root)
        referenced = _mark(store)
        found = [(kind, path) for kind, path in candidates if path not in referenced]
        return _measure(found)


def collect_garbage(store: ArtifactStore, *, wait_s: float) -> list[Garbage]:
    """Delete all that no version refers to and return it; waits up to `wait_s` seconds for those who publish.

    Whatever of it a crash leaves is garbage still.

    Raises:
        ArtifactCorrupted: as `find_garbage`; nothing was deleted.
        StoreError: somebody went on publishing, or the store cannot be written.
    """
    if not store.exists():
        return []
    with durable.store_errors(store.root, "deleting garbage"), hold_exclusive(store.root, wait_s=wait_s):
        garbage = find_garbage(store)
        for item in garbage:
            _delete(item.path)
        return garbage


def linked_parts(store: ArtifactStore) -> list[Path]:
    """Parts of the store that are symbolic links, so that no garbage is looked for there."""
    parts = (store.root / part for part in ("objects", "manifests", "checkouts", "tmp"))
    return [part for part in parts if part.is_symlink()]


def _mark(store: ArtifactStore) -> set[Path]:
    """The objects, manifests and checkouts that a version refers to."""
    referenced: set[Path] = set()
    for versions in _list_version_directories(store.root):
        name = versions.parent.name
        try:
            for version in store.version_names(name):
                referenced |= _mark_version(store, store.read_record(name, version), known=referenced)
        except ArtifactError as error:
            raise ArtifactCorrupted(
                f"{error}; nothing was deleted: nobody can tell what that version refers to; "
                f"to give it up, move its record in {versions} away"
            ) from error
    return referenced


def _mark_version(store: ArtifactStore, record: VersionRecord, *, known: set[Path]) -> set[Path]:
    manifest = store.manifest_path(record.manifest)
    if manifest in known:
        return set()
    entries = store.manifest(record.ref).entries
    objects = {object_path(store.root, entry.digest) for entry in entries if entry.ref is None}
    return objects | {manifest, store.checkout_path(record.manifest)}


def _list_version_directories(root: Path) -> list[Path]:
    """The `versions` of all names. A broken link is no empty directory: the disk behind it may be away."""
    artifacts = root / "artifacts"
    names = sorted(artifacts.iterdir()) if _is_there(artifacts) else []
    return [name / "versions" for name in names if _is_there(name) and name.is_dir() and _is_there(name / "versions")]


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    path.stat()
    return True


def _list_candidates(root: Path) -> list[tuple[Kind, Path]]:
    """All that could be garbage, by kind and path."""
    objects = _find(root, "objects", "sha256", _PAIR, _PAIR, _HEX)
    manifests = _find(root, "manifests", "sha256", _PAIR, _HEX + r"\.json")
    return [
        *(("object", Path(entry.path)) for entry in objects if entry.is_file(follow_symlinks=False)),
        *(("manifest", Path(entry.path)) for entry in manifests if entry.is_file(follow_symlinks=False)),
        *(("checkout", Path(entry.path)) for entry in _find(root, "checkouts", _HEX) if _is_real_directory(entry)),
        *(("leftover", Path(entry.path)) for entry in _find(root, "tmp", r"(?s:.*)")),
    ]


def _find(directory: Path | str, pattern: str, *below: str) -> Iterator[os.DirEntry[str]]:
    """Entries whose names match, one pattern a level; through directories, never through links."""
    with os.scandir(directory) as scan:
        entries = sorted((entry for entry in scan if re.fullmatch(pattern, entry.name)), key=lambda entry: entry.name)
    if not below:
        yield from entries
        return
    for entry in entries:
        if _is_real_directory(entry):
            yield from _find(entry.path, *below)


def _is_real_directory(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _measure(found: list[tuple[Kind, Path]]) -> list[Garbage]:
    """Count each file's bytes once, and only if its last link is among what was found."""
    statuses = [(kind, path, list(_stat_files(path))) for kind, path in found]
    links = Counter((status.st_dev, status.st_ino) for _, _, files in statuses for status in files)
    garbage = []
    for kind, path, files in statuses:
        freed = {(status.st_dev, status.st_ino): status for status in files}
        num_bytes = sum(status.st_size for inode, status in freed.items() if links[inode] >= status.st_nlink)
        links.subtract({inode: links[inode] for inode in freed})
        garbage.append(Garbage(kind=kind, path=path, num_bytes=num_bytes))
    return garbage


def _stat_files(path: Path) -> Iterator[os.stat_result]:
    """The status of a file, or of all files below a directory; without what goes away meanwhile."""
    files = [path]
    if path.is_dir() and not path.is_symlink():
        files = [Path(directory, name) for directory, _, names in os.walk(path) for name in names]
    for file in files:
        with suppress(FileNotFoundError):
            yield file.lstat()


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
