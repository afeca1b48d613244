"""The canonical JSON that is digested, and copying a file while its digest is computed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from nemo_runspec.artifacts.backend import Algorithm
from nemo_runspec.artifacts.digests import CHUNK_BYTES, default_algorithm, new_hasher


def canonical_json(value: object) -> bytes:
    """The one spelling of a JSON value: sorted keys, no spaces, ASCII.

    Raises:
        ValueError: not finite, or not JSON at all (then TypeError).
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def digest_bytes(content: bytes) -> str:
    """`sha256:<hex>` of the bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def copy_and_digest(source: Path, target: Path, algorithm: Algorithm | None = None) -> tuple[str, int]:
    """Copy into the new file `target`, synced to disk; the digest and the size in bytes of what was written."""
    algorithm = algorithm or default_algorithm()
    hasher = new_hasher(algorithm)
    size = 0
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(CHUNK_BYTES):
            hasher.update(chunk)
            writer.write(chunk)
            size += len(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return f"{algorithm}:{hasher.hexdigest()}", size
