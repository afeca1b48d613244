"""Digests, always written with their algorithm (`sha256:<hex>`), and the canonical JSON that is digested."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from nemo_runspec.fingerprint import digest_file

__all__ = ["canonical_json", "copy_and_digest", "digest_bytes", "digest_file"]

_CHUNK_BYTES = 1 << 20


def canonical_json(value: object) -> bytes:
    """The one spelling of a JSON value: sorted keys, no spaces, ASCII.

    Raises:
        ValueError: not finite, or not JSON at all (then TypeError).
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def digest_bytes(content: bytes) -> str:
    """`sha256:<hex>` of the bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def copy_and_digest(source: Path, target: Path) -> tuple[str, int]:
    """Copy into the new file `target`, synced to disk; the digest and the size in bytes of what was written."""
    algorithm = hashlib.sha256()
    size = 0
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            algorithm.update(chunk)
            writer.write(chunk)
            size += len(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return f"sha256:{algorithm.hexdigest()}", size
