"""The code of a job, copied when it is submitted: what is edited while it waits in the queue does not change it."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import nemo_runspec
import nemotron.recipes

_IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def copy_code(script: Path, target: Path) -> None:
    """Copy the recipe that the script belongs to, and the toolkit, so that `target` can stand first on PYTHONPATH.

    Whole or not at all, and once: a job may be running from it.
    """
    if target.exists():
        return
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    toolkit = Path(nemo_runspec.__file__).parent
    shutil.copytree(toolkit, partial / toolkit.name, ignore=_IGNORED)
    recipe = script.parent.parent
    destination = partial / script_place(script).parent.parent
    shutil.copytree(recipe, destination, ignore=_IGNORED)
    for package in destination.relative_to(partial).parents:
        if package.name:  # nemotron and nemotron.recipes, of which only this recipe travels
            (partial / package / "__init__.py").touch()
    try:
        partial.rename(target)
    except OSError:  # rename(2): somebody else was faster
        shutil.rmtree(partial)
        if not target.exists():
            raise


def script_place(script: Path) -> Path:
    """Where the script lies under the copied code: a recipe of this package under its import path."""
    recipe = script.parent.parent
    ours = [Path(path).resolve() for path in nemotron.recipes.__path__]
    inside = Path("nemotron", "recipes", recipe.name) if recipe.parent in ours else Path(recipe.name)
    return inside / script.parent.name / script.name
