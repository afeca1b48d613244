"""Where a script's recipe, its project and the toolkit begin, and the name that a recipe is imported by."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import nemo_runspec
from nemo_runspec.errors import ConfigError

PROJECT_MARKS = ("pyproject.toml", ".git")
INSTALLED = frozenset({"site-packages", "dist-packages"})


def recipe_root(script: Path) -> Path:
    """The directory of the script's recipe: the one in `recipes`, or above a `stage…`, else the script's own."""
    script = Path(os.path.abspath(script))
    for folder in script.parents:
        if folder.parent.name == "recipes":
            return folder
    own = script.parent
    return own.parent if own.name.startswith("stage") and own.parent.name else own


def project_root(script: Path) -> Path | None:
    """The nearest directory upwards with a pyproject.toml or a .git; None for an installed script."""
    for folder in Path(os.path.abspath(script)).parents:
        if folder.name in INSTALLED:
            return None
        if any((folder / mark).exists() for mark in PROJECT_MARKS):
            return folder
    return None


def toolkit_dir() -> Path:
    """The directory of `nemo_runspec`.

    Raises:
        ConfigError: it runs from a packaged file itself, where there is none.
    """
    folder = Path(nemo_runspec.__file__).parent
    if not folder.is_dir():
        raise ConfigError(f"{folder}: the toolkit cannot be packaged from within a packaged file")
    return folder


def recipe_place(root: Path, packages: Iterable[str] = ()) -> PurePosixPath:
    """Where the recipe lies in a package, so that it is imported as it is here.

    A member of `packages` goes under that name, another under the packages around it, `__init__.py` by `__init__.py`.
    """
    for name in packages:
        if root.parent.resolve() in package_dirs(name):
            return PurePosixPath(*name.split("."), root.name)
    return PurePosixPath(root.relative_to(outermost_package(root).parent))


def package_dirs(name: str) -> list[Path]:
    """Where that importable package lies, links resolved; nothing if there is none."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return []
    return [Path(path).resolve() for path in (spec and spec.submodule_search_locations) or ()]


def outermost_package(folder: Path) -> Path:
    """The top of the packages that `folder` lies in, by their `__init__.py`; `folder` itself if it lies in none."""
    while (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    return folder
