"""Verifying many versions: each gets a line, and a bad one does not end it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.errors import ArtifactCorrupted, ArtifactError, StoreError
from nemotron.cli.artifact_tables import format_bytes, format_count


def find_references(store: ArtifactStore, references: Sequence[str]) -> list[str]:
    """The references, or all versions if there are none.

    Raises:
        ArtifactError: a reference means nothing here; one that means something damaged is for `check_all` to tell.
    """
    for reference in references:
        with suppress(ArtifactCorrupted, StoreError):
            store.resolve(reference)
    every = (f"{name}:{version}" for name in store.names() for version in store.version_names(name))
    return list(references or every)


def check_all(
    store: ArtifactStore, references: Sequence[str], *, level: Literal["full", "stat"], say: Callable[[str], None]
) -> int:
    """Say of each how it is, and the totals; the number of bad ones."""
    start = time.monotonic()
    num_bytes = num_bad = 0
    width = max(map(len, references), default=0)
    for reference in references:
        try:
            ref = store.resolve(reference)
            manifest = store.manifest(ref)
            size = sum(entry.size for entry in manifest.entries)
            num_bytes += size
            store.verify(ref, level)
        except ArtifactError as error:
            num_bad += 1
            say(f"{reference:<{width}}  BAD  {str(error).removeprefix(reference + ': ')}")
        else:
            say(f"{reference:<{width}}  ok   {format_count(len(manifest.entries), 'file')}, {format_bytes(size)}")
    looked_at = "" if level == "full" else ", sizes only"
    verdict = f"{num_bad:,} bad" if num_bad else "all ok"
    seconds = time.monotonic() - start
    say(f"{format_count(len(references), 'version')}, {format_bytes(num_bytes)}, {seconds:.1f} s{looked_at}: {verdict}")
    return num_bad
