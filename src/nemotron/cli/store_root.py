"""Which artifact store a command is about. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path

from nemo_runspec.project import find_project


def find_store(option: Path | None = None) -> Path:
    """What `--store` says, else `$NEMOTRON_STORE`, else `.nemotron/artifacts` of the project; it may not be there."""
    named = os.environ.get("NEMOTRON_STORE")
    return option or (Path(named) if named else find_project() / ".nemotron" / "artifacts")
