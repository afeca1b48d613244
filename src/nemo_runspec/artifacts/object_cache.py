"""Local copies of what an object store has: complete directories of checked files, one for each version that was read.

They lie under `$NEMOTRON_CACHE`, else `$XDG_CACHE_HOME/nemotron`, else `~/.cache/nemotron`; deleting them costs another
download. A file that somebody wrote to is fetched again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from nemo_runspec.artifacts import durable
from nemo_runspec.artifacts.backend import object_key
from nemo_runspec.artifacts.digests import CHUNK_BYTES, digest_like
from nemo_runspec.artifacts.object_files import ObjectFiles
from nemo_runspec.errors import ArtifactCorrupted, RunspecError, StoreError

ENV_CACHE = "NEMOTRON_CACHE"
_NUM_DOWNLOADS = 8
# Every checked file has this modification time (2000-01-01), so that one that was written to is told from it.
_CHECKED_NS = 946_684_800 * 10**9


def cache_folder(location: str, name: str) -> Path:
    """Where the files of what is called `name` in that store are set out on this machine."""
    named = os.environ.get(ENV_CACHE)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nemotron"
    store = hashlib.sha256(location.encode()).hexdigest()[:16]
    return (Path(named).absolute() if named else home) / "materialized" / store / name


def materialize(files: ObjectFiles, target: Path, entries: Sequence[tuple[str, str]]) -> None:
    """Have each content (second: its digest) in the directory `target` under its path (first), complete or not at all.

    Of several processes that want the same one downloads it and the others wait.

    Raises:
        ArtifactCorrupted: a content is missing or not of its digest.
        StoreError: it cannot be fetched, or the cache cannot be written.
    """
    if _is_complete(target, entries):
        return
    try:
        durable.ensure_directory(target.parent)
        with _alone(target) as is_alone, _scratch(target, sweep=is_alone) as building:
            if not _is_complete(target, entries):
                _download_all(files, building, entries)
                _move(building, target, [path for path, _ in entries])
    except RunspecError:
        raise
    except OSError as error:
        raise StoreError(
            f"cache {target.parent}: copying from {files.location} failed: {error.strerror or error}; "
            f"free some space there, or set {ENV_CACHE} to another directory"
        ) from error


def _is_complete(target: Path, entries: Sequence[tuple[str, str]]) -> bool:
    return all(_is_checked(target / path) for path, _ in entries)


def _is_checked(path: Path) -> bool:
    try:
        return path.stat().st_mtime_ns == _CHECKED_NS
    except (FileNotFoundError, NotADirectoryError):
        return False


@contextmanager
def _alone(target: Path) -> Iterator[bool]:
    """Nobody else downloads it within the block; False where there are no locks, so that each does for itself."""
    descriptor = os.open(target.with_name(f"{target.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            return False
        raise
    return True


@contextmanager
def _scratch(target: Path, *, sweep: bool) -> Iterator[Path]:
    """A directory to be made beside it, gone afterwards; `sweep` removes what killed processes left half done."""
    prefix = f".{target.name}-"
    for left in target.parent.glob(f"{prefix}*") if sweep else ():
        shutil.rmtree(left, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        yield path / "files"
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _download_all(files: ObjectFiles, building: Path, entries: Sequence[tuple[str, str]]) -> None:
    with ThreadPoolExecutor(max_workers=_NUM_DOWNLOADS) as pool:
        try:
            for _ in pool.map(lambda entry: _download(files, building / entry[0], entry[1]), entries):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _download(files: ObjectFiles, path: Path, digest: str) -> None:
    """Fetch the content into the new file, synced and read-only, and check it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    key = object_key(digest)
    try:
        with files.open(key) as source, path.open("xb") as copy:
            shutil.copyfileobj(source, copy, CHUNK_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
    except FileNotFoundError as error:
        raise _corrupted(files.url(key), digest, "no such file") from error
    if (got := digest_like(path, digest)) != digest:
        raise _corrupted(files.url(key), digest, got)
    path.chmod(0o444)
    os.utime(path, ns=(_CHECKED_NS, _CHECKED_NS))


def _corrupted(url: str, expected: str, got: str) -> ArtifactCorrupted:
    return ArtifactCorrupted(
        f"{url}: expected {expected}, got {got}; remove it and rerun the stage that made it with --refresh"
    )


def _move(building: Path, target: Path, paths: Sequence[str]) -> None:
    try:
        building.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        # Another process was faster or a file was touched. Others may read there, so no name may be gone for a moment.
        for path in paths:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (building / path).replace(target / path)
