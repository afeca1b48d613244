"""Directories of `v0.json`, `v1.json`, …, to which any number of processes append: versions, aliases, notes."""

from __future__ import annotations

import re
from collections.abc import Callable

from nemo_runspec.artifacts.backend import Backend, Writer

_NUMBERED = re.compile(r"v(0|[1-9][0-9]*)\.json")


def list_numbers(backend: Backend, key: str) -> list[int]:
    """The N of all `vN.json` in ascending order; empty if there is nothing."""
    names = backend.list_names(key)
    return sorted(int(match[1]) for name in names if (match := _NUMBERED.fullmatch(name)))


def newest_key(backend: Backend, key: str) -> str | None:
    """The one with the highest number, None if there is none."""
    numbers = list_numbers(backend, key)
    return _key_of(key, numbers[-1]) if numbers else None


def commit(
    backend: Backend, writer: Writer, key: str, render: Callable[[int], bytes], *, number: int | None = None
) -> int:
    """Write `render(N)` as `vN.json` for that N, unless there is one, or for the first free one; return N."""
    if number is None:
        return commit_next(backend, writer, key, render)
    writer.create(_key_of(key, number), render(number))
    return number


def commit_next(backend: Backend, writer: Writer, key: str, render: Callable[[int], bytes]) -> int:
    """Write `render(N)` as `vN.json` for the first free N, and return N."""
    number = max(list_numbers(backend, key), default=-1) + 1
    while not writer.create(_key_of(key, number), render(number)):
        number += 1
    return number


def _key_of(key: str, number: int) -> str:
    return f"{key}/v{number}.json"
