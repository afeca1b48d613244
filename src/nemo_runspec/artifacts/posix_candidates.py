"""What may be garbage in a store that is a directory.

Nothing that a symbolic link leads to is looked at, and files that do not look like the store's own are left alone,
except in `tmp/`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from nemo_runspec.artifacts.backend import Candidate, Kind

_PAIR = r"[0-9a-f]{2}"
_HEX = r"[0-9a-f]{64}"


@dataclass(frozen=True, kw_only=True)
class _File:
    inode: tuple[int, int]
    size: int = field(compare=False)
    num_links: int = field(compare=False)

    @classmethod
    def from_status(cls, status: os.stat_result) -> Self:
        return cls(inode=(status.st_dev, status.st_ino), size=status.st_size, num_links=status.st_nlink)


def list_candidates(root: Path) -> Iterator[Candidate]:
    """Objects first, then manifests, checkouts and leftovers; bytes count once, and only if no link is elsewhere."""
    found = list(_find_candidates(root))
    links = Counter(file for _, _, files in found for file in files)
    for entry, kind, files in found:
        freed = {file for file in files if links[file] >= file.num_links}
        links.subtract({file: links[file] for file in freed})
        with suppress(FileNotFoundError):  # the leftovers of those who write now go away meanwhile
            yield Candidate(
                kind=kind,
                key=Path(entry.path).relative_to(root).as_posix(),
                num_bytes=sum(file.size for file in freed),
                mtime=entry.stat(follow_symlinks=False).st_mtime,
            )


def _find_candidates(root: Path) -> Iterator[tuple[os.DirEntry[str], Kind, list[_File]]]:
    for entry in _find(root, "objects", "blake3|sha256", _PAIR, _PAIR, _HEX):
        if entry.is_file(follow_symlinks=False):
            yield entry, "object", _list_files(entry)
    for entry in _find(root, "manifests", "sha256", _PAIR, _HEX + r"\.json"):
        if entry.is_file(follow_symlinks=False):
            yield entry, "manifest", _list_files(entry)
    for entry in _find(root, "checkouts", _HEX):
        if _is_real_directory(entry):
            yield entry, "checkout", _list_files(entry)
    for entry in _find(root, "tmp", r"(?s:.*)"):
        yield entry, "leftover", _list_files(entry)


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


def _list_files(entry: os.DirEntry[str]) -> list[_File]:
    """The file, or all files below the directory; without what goes away meanwhile."""
    paths = [entry.path]
    if _is_real_directory(entry):
        paths = [os.path.join(directory, name) for directory, _, names in os.walk(entry.path) for name in names]
    files = []
    for path in paths:
        with suppress(FileNotFoundError):
            files.append(_File.from_status(os.lstat(path)))
    return files
