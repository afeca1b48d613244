"""Finds recipe scripts and the command that each is: a script with `[tool.runspec]` needs no registration.

Reads text only: nothing is imported or run. The command is the runspec's `name`, its parts separated by `/`; a script
without one is named after the directories it lies in.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_runspec.errors import ConfigError, RunspecError
from nemo_runspec.runspec import Runspec, parse

_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})


@dataclass(frozen=True, kw_only=True)
class RecipeScript:
    """A recipe script; `command` are the words that call it, as `("nano3", "data", "prep", "sft")`."""

    command: tuple[str, ...]
    runspec: Runspec
    folder: Path

    @property
    def recipe(self) -> str:
        """The name of the recipe it belongs to."""
        return self.command[0]

    @property
    def stage(self) -> str:
        """The name of the stage, as in a flow: `data_prep_sft`."""
        return "_".join(self.command[1:] or self.command).replace("-", "_")


@dataclass(frozen=True, kw_only=True)
class RecipeScripts:
    """All scripts by their command, and what is wrong with those that cannot be used, by path."""

    by_command: dict[tuple[str, ...], RecipeScript]
    problems: dict[Path, RunspecError]


def find_recipe_scripts(folders: Sequence[Path]) -> RecipeScripts:
    """The recipe scripts below the directories; of two of the same command that of the earlier directory counts.

    Two in the same directory are a problem of both, and so are a command and a group of the same name. Across
    directories it is one of the earlier: what lies in the later ones, which others may use too, goes on.
    """
    scripts: list[RecipeScript] = []
    problems: dict[Path, RunspecError] = {}
    seen: set[Path] = set()
    for folder in folders:
        for path in _candidates(folder, seen):
            try:
                scripts.append(_read(path, folder))
            except RunspecError as error:
                problems[path] = error
    by_command: dict[tuple[str, ...], RecipeScript] = {}
    for script in scripts:
        clash = next(filter(None, (_clash(script, other, folders) for other in scripts)), None)
        if clash is None:
            by_command.setdefault(script.command, script)
        else:
            problems[script.runspec.script_path] = clash
    return RecipeScripts(by_command=by_command, problems=problems)


def _clash(script: RecipeScript, other: RecipeScript, folders: Sequence[Path]) -> ConfigError | None:
    """Why the script cannot be a command beside the other one."""
    shorter = min(len(other.command), len(script.command))
    if script is other or other.command[:shorter] != script.command[:shorter]:
        return None
    name, path = "/".join(script.command), other.runspec.script_path
    said = f"{script.runspec.script_path}: [tool.runspec] name = {name!r} is"
    if len(other.command) == len(script.command):
        return ConfigError(f"{said} that of {path}, too; rename one of them") if other.folder == script.folder else None
    if folders.index(script.folder) > folders.index(other.folder):
        return None
    return ConfigError(f"{said} both a command and a group with {'/'.join(other.command)!r} ({path}); rename one")


def _read(path: Path, folder: Path) -> RecipeScript:
    runspec = parse(path)
    name = runspec.name or _default_name(path, folder)
    words = tuple(word.strip().replace("_", "-") for word in name.split("/"))
    if not all(words) or any(word.startswith("-") or " " in word or "=" in word for word in words):
        raise ConfigError(
            f"{path}: [tool.runspec] name = {name!r} makes no command; expected words separated by '/', as nano3/sft"
        )
    return RecipeScript(command=words, runspec=runspec, folder=folder)


def _default_name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _candidates(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """The files below with a PEP 723 block that has `[tool.runspec]`, by name; each only once."""
    for path in sorted(_python_files(folder)):
        resolved = path.resolve()
        if resolved in seen or not has_runspec(path):
            continue
        seen.add(resolved)
        yield path


def _python_files(folder: Path) -> Iterable[Path]:
    for parent, names, files in os.walk(folder):
        names[:] = [name for name in names if name not in _SKIPPED and not name.startswith(".")]
        yield from (Path(parent, name) for name in files if name.endswith(".py"))


def has_runspec(path: Path) -> bool:
    """Whether the file looks like a recipe script; False if it cannot be read."""
    try:
        text = path.read_bytes()
    except OSError:
        return False
    return b"\n# [tool.runspec]" in text and (text.startswith(b"# /// script") or b"\n# /// script" in text)
