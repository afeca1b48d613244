"""Text files as training documents: read, refuse what is no text, cut into documents, split into train and valid."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from nemo_runspec.artifacts import InputDatasetInfo
from nemo_runspec.errors import DataError
from nemo_runspec.fingerprint import digest_file
from nemotron.recipes.nano3.settings import Settings

_NEXT_STEP = "give a UTF-8 text file"


_Item = TypeVar("_Item")


class TextSource(Settings):
    """A text file; `weight` is its share of the blend relative to the other sources' weights."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    path: Path
    weight: float = Field(default=1.0, gt=0)


def read_text(path: Path) -> str:
    """The file's text.

    Raises:
        DataError: missing, unreadable, empty, binary (has NUL bytes) or not UTF-8 (with the first bad byte).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; {_NEXT_STEP}") from error
    if b"\x00" in content:
        raise DataError(f"{path}: binary data (a NUL byte at {content.index(0)}); {_NEXT_STEP}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        position = error.start + len(content) - len(error.object)  # the codec counts from behind a byte order mark
        bad = content[position]
        raise DataError(f"{path}: not UTF-8: byte 0x{bad:02x} at {position}; convert it to UTF-8") from error
    if not text.strip():
        raise DataError(f"{path}: empty ({len(content)} bytes, no text); {_NEXT_STEP}")
    return text.replace("\r\n", "\n")


def cut_documents(text: str, *, target_chars: int) -> list[str]:
    """Whole paragraphs joined to documents of about `target_chars` characters; a longer one is cut between lines."""
    documents: list[str] = []
    current = ""
    for piece in _pieces(text, target_chars):
        current += piece
        if len(current) >= target_chars:
            documents.append(current.strip("\n"))
            current = ""
    documents.append(current.strip("\n"))
    return [document for document in documents if document.strip()]


def _pieces(text: str, target_chars: int) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        if len(paragraph) < target_chars:
            yield paragraph + "\n\n"
        else:
            yield from (paragraph + "\n\n").splitlines(keepends=True)


def split_items(
    items: Sequence[_Item], *, valid_fraction: float, seed: int, origin: str, remedy: str = "give more"
) -> dict[str, list[_Item]]:
    """Whole items to `train` and `valid`, at random by `seed`, each with at least one, order kept.

    Raises:
        DataError: fewer than two items; it names their origin and what to do about it.
    """
    if len(items) < 2:
        raise DataError(f"{origin}: {len(items)} item(s), but train and valid need one each; {remedy}")
    num_valid = min(max(1, round(len(items) * valid_fraction)), len(items) - 1)
    chosen = set(random.Random(seed).sample(range(len(items)), num_valid))
    return {
        "train": [item for index, item in enumerate(items) if index not in chosen],
        "valid": [item for index, item in enumerate(items) if index in chosen],
    }


def describe_source(source: TextSource, *, num_rows: int) -> InputDatasetInfo:
    """What lineage keeps of a source file."""
    return describe_file(source.path, name=source.name, weight=source.weight, num_rows=num_rows)


def describe_file(path: Path, *, name: str, num_rows: int, weight: float = 1.0) -> InputDatasetInfo:
    """What lineage keeps of any input file."""
    return InputDatasetInfo(
        name=name,
        uri=str(path.resolve()),
        weight=weight,
        num_rows=num_rows,
        size_bytes=path.stat().st_size,
        sha256=digest_file(path),
    )
