"""Which place a store's name means: a directory or, with `://`, an object store."""

from __future__ import annotations

from pathlib import Path

from nemo_runspec.artifacts.backend import Backend
from nemo_runspec.artifacts.posix_backend import PosixBackend
from nemo_runspec.store_location import absolute_location, is_url


def open_backend(root: str | Path) -> Backend:
    """The place of the store called `root`; looks at nothing there.

    Raises:
        StoreError: a home directory that cannot be found, or an URL that means no place for a store.
    """
    location = absolute_location(root)
    if is_url(location):
        from nemo_runspec.artifacts.object_backend import ObjectBackend

        return ObjectBackend(location)
    return PosixBackend(Path(location))
