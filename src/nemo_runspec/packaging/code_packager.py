"""The whole git work tree of a script, uncommitted changes included, and the toolkit if the tree lacks it."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nemo_runspec.errors import ConfigError
from nemo_runspec.packaging.git_tree import INSTEAD, find_work_tree, list_files
from nemo_runspec.packaging.package import Content, Package, Symlink
from nemo_runspec.packaging.packager import Packager
from nemo_runspec.packaging.pattern_packager import matching_files
from nemo_runspec.packaging.roots import toolkit_dir

TOOLKIT_PLACE = PurePosixPath(".toolkit")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CodePackager(Packager):
    """What `git add --all` would add, and submodules; files keep their places relative to the work tree."""

    def script_place(self) -> PurePosixPath:
        """Where the script lies in its work tree."""
        return PurePosixPath(self.script.resolve().relative_to(find_work_tree(self.script)))

    def _collect(self) -> Package:
        tree, script = find_work_tree(self.script), self.script_place()
        files = {place: content for place in list_files(tree) if (content := _content(tree, place)) is not None}
        if script not in files:
            raise ConfigError(f"{self.script}: git ignores the script, so it would not travel; {INSTEAD}")
        folders = [PurePosixPath("."), *([PurePosixPath("src")] if (tree / "src").is_dir() else [])]
        if not any(folder / "nemo_runspec" / "__init__.py" in files for folder in folders):
            folders.append(TOOLKIT_PLACE)
            files |= _toolkit_files()
        return Package(files=files, script=script, pythonpath=tuple(folders))


def _content(tree: Path, place: PurePosixPath) -> Content | None:
    """The file, or the link where it leads to a place in the tree; None for what cannot travel."""
    path = tree / place
    if not path.is_symlink():
        return path
    target = path.resolve()
    if target.is_relative_to(tree):
        link = os.readlink(path)
        stays = not os.path.isabs(link) and ".." not in Path(os.path.normpath(place.parent / link)).parts
        return Symlink(link if stays else os.path.relpath(target, path.parent.resolve()))
    if target.is_file():
        return target
    logger.warning("%s: links to %s, outside the work tree and no file, so it does not travel", path, target)
    return None


def _toolkit_files() -> dict[PurePosixPath, Content]:
    toolkit = toolkit_dir()
    return {TOOLKIT_PLACE / toolkit.name / path: toolkit / path for path in matching_files(toolkit)}
