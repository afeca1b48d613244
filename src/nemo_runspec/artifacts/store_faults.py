"""A store that cannot be read or written, told in one line that says where it is and what to do."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nemo_runspec.artifacts.backend import Backend
from nemo_runspec.errors import RunspecError, StoreError


@contextmanager
def store_errors(backend: Backend, doing: str) -> Iterator[None]:
    """Turn any `OSError` of the block into a `StoreError` that says what could not be done."""
    try:
        yield
    except RunspecError:
        raise
    except OSError as error:
        raise StoreError(_describe(error, backend=backend, doing=doing)) from error


def _describe(error: OSError, *, backend: Backend, doing: str) -> str:
    at = f" ({error.filename})" if error.filename and str(error.filename) != backend.location else ""
    if backend.path is None:
        return (
            f"artifact store {backend.location}: {doing} failed{at}: {error.strerror or error}; "
            "check its URL, the credentials and the network, or set NEMOTRON_STORE to another"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"artifact store {backend.location}: disk full while {doing}{at}: {_free_bytes(backend.path)} bytes free; "
            "nothing was published; free some space or set NEMOTRON_STORE to a directory on another disk"
        )
    return (
        f"artifact store {backend.location}: {doing} failed{at}: {error.strerror or error}; "
        "make it a directory you can read and write, or set NEMOTRON_STORE to one"
    )


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(next(there for there in (path, *path.parents) if there.exists())).free
