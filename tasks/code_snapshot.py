"""The code of a job, copied when it is submitted: what is edited while it waits in the queue does not change it."""

from __future__ import annotations

from pathlib import Path

from nemo_runspec.packaging import Packager, build_packager, pack_tar, write_package

RECIPES = ("nemotron.recipes",)  # a recipe of this package keeps its import path


def copy_code(script: Path, target: Path, packager: str = "pattern") -> None:
    """Write what that packager takes along as the directory `target`; whole or not at all, and once.

    Raises:
        ConfigError: there is no such packager, or it cannot package this script.
    """
    if not target.exists():
        write_package(_packager(script, packager).build(), target)


def script_place(script: Path, packager: str = "pattern") -> Path:
    """Where the script lies under the copied code."""
    return Path(_packager(script, packager).script_place())


def python_path(script: Path, packager: str = "pattern") -> tuple[str, ...]:
    """What goes onto PYTHONPATH, relative to the copied code."""
    return tuple(str(place) for place in _packager(script, packager).build().pythonpath)


def pack_code(script: Path, path: Path, packager: str = "pattern") -> Path:
    """Write what that packager takes along as the tar.gz file `path`; returns it."""
    return pack_tar(_packager(script, packager).build(), path)


def _packager(script: Path, kind: str) -> Packager:
    return build_packager(kind, script, packages=RECIPES)
