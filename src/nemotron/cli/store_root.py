"""Which artifact store a command is about. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path

from nemo_runspec.env_file import load_env_file
from nemo_runspec.project import find_project
from nemo_runspec.store_location import absolute_location, is_url


def find_store(option: str | None = None) -> str:
    """The path or URL: what `--store` says, else `$NEMOTRON_STORE`, else what a run in this project would use.

    That is what env.toml says, or the block it names, else `.nemotron/artifacts`; it may not be there.

    Raises:
        ConfigError: env.toml cannot be used.
        RequirementError: the block cannot be asked for.
        StoreError: a home directory that cannot be found.
    """
    from nemotron.blocks.store_settings import project_store

    named = option or os.environ.get("NEMOTRON_STORE")
    return absolute_location(named) if named else project_store(find_project())


def find_directory() -> Path | None:
    """The directory of the same store; None where it is at a URL or only a Prefect server knows."""
    named = os.environ.get("NEMOTRON_STORE")
    table = {} if named else load_env_file().get("artifacts") or {}
    if "block" in table:
        return None
    location = absolute_location(
        named or str(table.get("root") or ".nemotron/artifacts"), None if named else find_project()
    )
    return None if is_url(location) else Path(location)
