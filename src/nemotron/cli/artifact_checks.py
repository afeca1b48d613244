"""Verifying many versions: each gets a line that says what was compared, and a bad one does not end it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.artifacts.verification import Level, Verification
from nemo_runspec.errors import ArtifactCorrupted, ArtifactError, RequirementError, StoreError
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


def check_all(store: ArtifactStore, references: Sequence[str], *, level: Level, say: Callable[[str], None]) -> int:
    """Say of each how it is, and the totals; the number of those that are bad or could not be checked."""
    start = time.monotonic()
    whole: list[Verification] = []
    failures: Counter[str] = Counter()
    width = max(map(len, references), default=0)
    for reference in references:
        try:
            found = store.verify(store.resolve(reference), level)
        except ArtifactError as error:
            failures["bad"] += 1
            verdict = f"BAD  {str(error).removeprefix(reference + ': ')}"
        except RequirementError as error:
            failures["not checked"] += 1
            verdict = f"NOT CHECKED  {error}"
        else:
            whole.append(found)
            verdict = f"ok   {_size_text(found)}, {compared_text([found])}{_attestation_text(found)}"
        say(f"{reference:<{width}}  {verdict}")
    facts = [
        format_count(len(references), "version"),
        format_bytes(sum(found.num_bytes for found in whole)),
        f"{time.monotonic() - start:.1f} s",
        *([compared_text(whole)] if whole else []),
    ]
    results = ", ".join(f"{number:,} {result}" for result, number in failures.items()) or "all ok"
    say(f"{', '.join(facts)}: {results}")
    return failures.total()


def compared_text(found: Sequence[Verification]) -> str:
    """`compared in full`, or `compared 2 files in full, 10 by sample` where not all were compared in one way."""
    ways = {
        "in full": sum(each.num_full for each in found),
        "by sample": sum(each.num_sampled for each in found),
        "by size only": sum(each.num_by_size for each in found),
    }
    (first, number), *others = ((way, number) for way, number in ways.items() if number)
    if not others:
        return f"compared {first}"
    return f"compared {format_count(number, 'file')} {first}" + "".join(f", {other:,} {way}" for way, other in others)


def _size_text(found: Verification) -> str:
    return f"{format_count(found.num_files, 'file')}, {format_bytes(found.num_bytes)}"


def _attestation_text(found: Verification) -> str:
    """What is to be said of full digests that were not recorded when the version was published."""
    if found.attest_error is not None:
        return f"; {format_count(found.num_unattested, 'full digest')} could not be recorded: {found.attest_error}"
    if found.num_attested:
        return f"; {format_count(found.num_attested, 'full digest')} recorded now, with none to compare with before"
    if found.num_unattested:
        return f"; no full digest of {format_count(found.num_unattested, 'file')} yet, --level full records it"
    return ""
