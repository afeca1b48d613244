"""Metrics files that are meant for W&B, noted in the store when a training begins: it may fail, or publish nothing.

A note a file. A training that goes on in another pipeline run writes the same file, and then that run's W&B run counts.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.artifacts.store_faults import store_errors
from nemo_runspec.errors import ArtifactCorrupted
from nemo_runspec.mirror.target import WandbTarget

_FOLDER = "mirrors/metrics"


def note_metrics(store: ArtifactStore, metrics: Path, target: WandbTarget) -> None:
    """Remember that the file's rows belong to the target's W&B run."""
    path = str(metrics.absolute())
    key = f"{_FOLDER}/{hashlib.sha256(path.encode()).hexdigest()[:32]}"
    note = target.model_copy(update={"metrics": path}).model_dump(mode="json")
    if store.newest_note(key) != note:
        store.add_note(key, note)


def list_notes(store: ArtifactStore) -> list[str]:
    """The key of each file's note."""
    with store_errors(store.backend, "listing metrics"):
        return sorted(f"{_FOLDER}/{name}" for name in store.backend.list_names(_FOLDER))


def load_note(store: ArtifactStore, key: str) -> WandbTarget:
    """The W&B run to which the rows of a file belong, which is its `metrics`.

    Raises:
        ArtifactCorrupted: the note cannot be understood.
    """
    try:
        return WandbTarget.model_validate(store.newest_note(key))
    except ValidationError as error:
        raise ArtifactCorrupted(f"the note {key} in {store.location} names no W&B run; remove it") from error
