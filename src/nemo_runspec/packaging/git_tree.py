"""The files of a git work tree as they are now. Reads only; git itself decides what is ignored."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nemo_runspec.errors import ConfigError, RequirementError

INSTEAD = "use packager 'pattern' (the recipe) or 'self_contained' (what the script imports)"
GIT_TIMEOUT_S = 120
OUTPUT = ".nemotron"  # what runs leave, other jobs' code too, whether or not git ignores it

logger = logging.getLogger(__name__)


def find_work_tree(script: Path) -> Path:
    """The work tree that the script lies in, links resolved.

    Raises:
        ConfigError: it lies in none.
        RequirementError: there is no git here.
    """
    answer = _git(script.resolve().parent, "rev-parse", "--show-toplevel")
    return Path(os.fsdecode(answer.removesuffix(b"\n"))).resolve()


def list_files(tree: Path) -> list[PurePosixPath]:
    """Tracked files and those that are neither tracked nor ignored, of submodules and repositories within too.

    Links count as files. Those that were deleted from the work tree are left out.
    """
    return sorted(set(_list_files(tree)))


def _list_files(tree: Path) -> Iterator[PurePosixPath]:
    listed = _git(tree, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, os.fsdecode(listed).split("\0")):
        path, place = tree / name, PurePosixPath(name)
        if OUTPUT in place.parts:
            continue
        if path.is_dir() and not path.is_symlink():  # a submodule, or a repository that nobody added
            if (path / ".git").exists():
                yield from (place / inner for inner in _list_files(path))
            else:
                logger.warning(
                    "%s: a submodule that is not checked out does not travel; git submodule update --init", path
                )
        elif os.path.lexists(path):
            yield place


def _git(folder: Path, *words: str) -> bytes:
    # Variables such as GIT_DIR, which git sets for hooks, would name another repository.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *words]
    try:
        answer = subprocess.run(command, env=env, capture_output=True, timeout=GIT_TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise RequirementError(f"{folder}: packager 'code' needs git, which is not on PATH; {INSTEAD}") from None
    except subprocess.TimeoutExpired:
        raise RequirementError(f"{folder}: no answer from git in {GIT_TIMEOUT_S} s; {INSTEAD}") from None
    if answer.returncode != 0:
        said = answer.stderr.decode(errors="replace").strip().splitlines()
        raise ConfigError(f"{folder}: packager 'code' needs a git work tree: {said[0] if said else 'git'}; {INSTEAD}")
    return answer.stdout
