"""The files of a recipe that match a pattern, and the toolkit. Empty directories and dangling links do not travel."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from nemo_runspec.errors import ConfigError
from nemo_runspec.packaging.package import Content, Package
from nemo_runspec.packaging.packager import Packager
from nemo_runspec.packaging.roots import recipe_place, recipe_root, toolkit_dir

EVERYTHING = "**/*"


@dataclass(frozen=True)
class PatternPackager(Packager):
    """The script's recipe, but for hidden and compiled files; members of `packages` keep their import path."""

    include_pattern: str = field(default=EVERYTHING, kw_only=True)
    packages: tuple[str, ...] = field(default=(), kw_only=True)

    def script_place(self) -> PurePosixPath:
        """Where the script will lie."""
        root = recipe_root(self.script)
        return recipe_place(root, self.packages) / self.script.relative_to(root)

    def _collect(self) -> Package:
        root, toolkit = recipe_root(self.script), toolkit_dir()
        if root in (Path(root.anchor), Path.home()):
            raise ConfigError(f"{self.script}: all of {root} would travel; put the script into a directory of its own")
        place = recipe_place(root, self.packages)
        if place.parts[0] == toolkit.name:
            raise ConfigError(f"{root}: a recipe cannot have the toolkit's name, {toolkit.name!r}; rename it")
        parents = [folder / "__init__.py" for folder in place.parents if folder.name]
        files: dict[PurePosixPath, Content] = dict.fromkeys(parents, b"")  # of these only the one recipe travels
        files |= {place / path: root / path for path in matching_files(root, self.include_pattern)}
        files |= {PurePosixPath(toolkit.name) / path: toolkit / path for path in matching_files(toolkit)}
        script = self.script_place()
        if script not in files:
            raise ConfigError(f"{self.script}: pattern {self.include_pattern!r} does not match the script itself")
        return Package(files=files, script=script, pythonpath=(PurePosixPath("."),))


def matching_files(folder: Path, pattern: str = EVERYTHING) -> list[PurePosixPath]:
    """The files in the folder that match, relative to it and sorted; links to directories are followed.

    Raises:
        ConfigError: a link leads to a directory that it lies in.
    """
    return sorted(_matching(folder, pattern))


def _matching(folder: Path, pattern: str) -> Iterator[PurePosixPath]:
    for name in glob.iglob(pattern, root_dir=folder, recursive=True):
        path, place = folder / name, PurePosixPath(name)
        _refuse_loop(path)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in place.parts)
        if not hidden and path.suffix != ".pyc" and path.is_file():
            yield place


def _refuse_loop(path: Path) -> None:
    own = path.parent.resolve()
    if path.is_symlink() and path.is_dir() and path.resolve() in (own, *own.parents):
        raise ConfigError(f"{path}: links to a directory that it lies in; remove it")
