"""Digests of files, named for how they were made: `blake3:<hex>`, `sha256:<hex>`, `sampled-blake3:<hex>`.

A sampled digest is of the size and of parts only, so that it costs the same for any size. It tells one file from
another and finds what was cut or written anew; it does not find a change between its parts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO, Protocol, get_args

from nemo_runspec.artifacts.backend import Algorithm
from nemo_runspec.errors import ArtifactError, RequirementError

CHUNK_BYTES = 1 << 20
_SAMPLED = "sampled-"
# Another way to choose the parts gets another tag, and so other digests.
_SAMPLING_TAG = b"nemotron-sampled-v1\0"
_EDGE_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 16
_NUM_BLOCKS = 64


class Hasher(Protocol):
    """What the objects of `hashlib` and of the package blake3 have in common."""

    def update(self, content: bytes, /) -> object: ...

    def hexdigest(self) -> str: ...


@cache
def default_algorithm() -> Algorithm:
    """BLAKE3, or SHA-256 where its package is not installed."""
    try:
        import blake3  # noqa: F401
    except ImportError:
        return "sha256"
    return "blake3"


def new_hasher(algorithm: Algorithm) -> Hasher:
    """A hasher that uses no thread but the caller's.

    Raises:
        RequirementError: BLAKE3 without its package.
    """
    if algorithm == "sha256":
        return hashlib.sha256()
    try:
        from blake3 import blake3
    except ImportError as error:
        raise RequirementError(
            "a digest blake3:… cannot be computed: the package blake3 is not installed; pip install 'blake3>=1.0,<2'"
        ) from error
    return blake3()


def digest_file(path: Path, algorithm: Algorithm | None = None) -> str:
    """`<algorithm>:<hex>` of the content, by default in the default algorithm."""
    with path.open("rb") as file:
        return digest_stream(file, algorithm or default_algorithm())


def digest_stream(file: BinaryIO, algorithm: Algorithm) -> str:
    """`<algorithm>:<hex>` of the content from where the stream is to its end."""
    hasher = new_hasher(algorithm)
    # blake3's mmap is no faster than this with one thread, and dies of SIGBUS if the file is cut meanwhile.
    while chunk := file.read(CHUNK_BYTES):
        hasher.update(chunk)
    return f"{algorithm}:{hasher.hexdigest()}"


def sampled_digest(path: Path, algorithm: Algorithm | None = None) -> str:
    """`sampled-<algorithm>:<hex>` of the file's size, its first and last MiB and 64 blocks of 64 KiB between them.

    The blocks are evenly spaced; of a file of up to 6 MiB all is read.
    """
    with path.open("rb") as file:
        return _sample_stream(file, algorithm or default_algorithm())


def is_sampled(digest: str) -> bool:
    """Whether the digest is of parts of the content only."""
    return digest.startswith(_SAMPLED)


def digest_like(source: Path | BinaryIO, digest: str) -> str:
    """The source's digest, made in the manner of another one; a stream must be at its beginning, and seek if sampled.

    Raises:
        ArtifactError: it is of no manner known here.
        RequirementError: it takes a package that is not installed.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            return digest_like(file, digest)
    algorithm = _parse_algorithm(digest)
    return _sample_stream(source, algorithm) if is_sampled(digest) else digest_stream(source, algorithm)


def _parse_algorithm(digest: str) -> Algorithm:
    name = digest.removeprefix(_SAMPLED).partition(":")[0]
    known: tuple[Algorithm, ...] = get_args(Algorithm)
    for algorithm in known:
        if name == algorithm:
            return algorithm
    raise ArtifactError(
        f"digest {digest[:80]!r}: no known algorithm; known: {', '.join(known)}, each also sampled-…; "
        "use the release of nemotron-flows that recorded it"
    )


def _sample_stream(file: BinaryIO, algorithm: Algorithm) -> str:
    num_bytes = file.seek(0, os.SEEK_END)
    hasher = new_hasher(algorithm)
    hasher.update(_SAMPLING_TAG + num_bytes.to_bytes(8, "big"))
    for offset, length in _parts(num_bytes):
        file.seek(offset)
        hasher.update(file.read(length))
    return f"{_SAMPLED}{algorithm}:{hasher.hexdigest()}"


def _parts(num_bytes: int) -> Iterator[tuple[int, int]]:
    """Offset and length of what is read of a file of this size; the parts do not overlap."""
    between = num_bytes - 2 * _EDGE_BYTES
    if between <= _NUM_BLOCKS * _BLOCK_BYTES:
        yield 0, num_bytes
        return
    yield 0, _EDGE_BYTES
    for index in range(_NUM_BLOCKS):
        middle = _EDGE_BYTES + between * (2 * index + 1) // (2 * _NUM_BLOCKS)
        yield middle - _BLOCK_BYTES // 2, _BLOCK_BYTES
    yield num_bytes - _EDGE_BYTES, _EDGE_BYTES
