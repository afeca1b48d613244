"""How an artifact store is named: by its directory or, with `://`, by a URL. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from nemo_runspec.errors import StoreError

_FILE = "file://"


def is_url(location: str) -> bool:
    """Whether it is no directory of this machine."""
    return "://" in location and not location.startswith(_FILE)


def absolute_location(root: str | Path, directory: Path | None = None) -> str:
    """The same place named so that it can be found from everywhere: a URL as it is, else an absolute path.

    A relative path is below `directory`, by default the current one.

    Raises:
        StoreError: a home directory that cannot be found.
    """
    text = str(root)
    if is_url(text):
        scheme, _, below = text.partition("://")
        return f"{scheme}://{below.rstrip('/')}"
    path = Path(unquote(text.removeprefix(_FILE)) if text.startswith(_FILE) else text)
    try:
        return str(((directory or Path()) / path.expanduser()).absolute())
    except RuntimeError as error:
        raise StoreError(f"artifact store {root}: {error}; set NEMOTRON_STORE to a directory") from error
