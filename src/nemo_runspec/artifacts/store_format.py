"""`format.json`, which makes a place a store and says how new contents are digested there."""

from __future__ import annotations

import json
from typing import get_args

from nemo_runspec.artifacts.backend import Algorithm, Backend, Writer
from nemo_runspec.artifacts.digests import default_algorithm
from nemo_runspec.artifacts.hashing import canonical_json
from nemo_runspec.errors import StoreError

_KEY = "format.json"
_ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)


def load_algorithm(backend: Backend) -> Algorithm | None:
    """How the store digests contents; None if there is no store yet.

    Raises:
        StoreError: it is of another format.
    """
    try:
        text = backend.read(_KEY).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = text[:80]
    for algorithm in _ALGORITHMS:
        if found == _document(algorithm):
            return algorithm
    allowed = " or ".join(str(_document(algorithm)) for algorithm in _ALGORITHMS)
    raise StoreError(
        f"{backend.location}/{_KEY}: format {found!r} is not supported; allowed: {allowed}; use another NEMOTRON_STORE"
    )


def algorithm_to_use(backend: Backend) -> Algorithm:
    """The store's algorithm if this machine has it: each digest says how it was made, so that they may differ."""
    here = default_algorithm()
    return "sha256" if here == "sha256" else load_algorithm(backend) or here


def save_format(writer: Writer) -> None:
    """Make the place a store; many may do so at once, and what the first says holds."""
    writer.create(_KEY, canonical_json(_document(default_algorithm())))


def _document(algorithm: Algorithm) -> dict[str, object]:
    return {"format": 1, "hash": algorithm}
