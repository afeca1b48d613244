"""The code of a job, as it is when that is submitted: what is edited while it waits in the queue does not change it."""

from __future__ import annotations

from pathlib import Path

from nemo_runspec.packaging import Package, Packager, build_packager

RECIPES = ("nemotron.recipes",)  # a recipe of this package keeps its import path


def package_code(script: Path, packager: str) -> Package:
    """What that packager takes along.

    Raises:
        ConfigError: there is no such packager, or it cannot package this script.
    """
    return _packager(script, packager).build()


def script_place(script: Path, packager: str) -> Path:
    """Where the script lies under the packaged code; packages nothing."""
    return Path(_packager(script, packager).script_place())


def _packager(script: Path, kind: str) -> Packager:
    return build_packager(kind, script, packages=RECIPES)
