"""Which project a command is about: the one that the current directory is in."""

from __future__ import annotations

from pathlib import Path

MARKS = (".nemotron", "env.toml", "pyproject.toml")


def find_project(start: Path | None = None) -> Path:
    """The nearest directory, from the current one up, that holds one of `MARKS`; the current one where none does."""
    here = (start or Path.cwd()).absolute()
    return next((folder for folder in (here, *here.parents) if any((folder / mark).exists() for mark in MARKS)), here)
