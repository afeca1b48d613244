"""Text-level work on configs: substitute `${run.*}`, rewrite paths for a remote machine. Pure; other `${…}` stay."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from nemo_runspec.errors import ConfigError

REMOTE_CODE_DIR = "/nemo_run/code"
REMOTE_RUN_DIR = "/nemo_run"
RUN_REFERENCE = re.compile(r"(?<!\\)\$\{run\.([A-Za-z0-9_.-]+)\}")
_REFERENCE = re.compile(r"(?<!\\)\$\{([A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*)\}")
_PWD = re.compile(r"\$\{oc\.env:PWD(,[^{}]*)?\}")
_RUN_DIR = re.compile(r"\$\{oc\.env:NEMO_RUN_DIR(,[^{}]*)?\}")


def resolve_run_interpolations(obj: Any, run: Mapping[str, Any]) -> Any:
    """Return `obj` with each `${run.KEY}` replaced by its value; a string that is nothing else takes its type.

    Unknown keys and other resolvers are kept as they are.

    Raises:
        ValueError: the values in `run` refer to each other in a circle.
    """
    return _map_strings(obj, lambda text: _substitute(text, run, ()))


def find_run_interpolations(obj: Any) -> list[str]:
    """The `${run.KEY}` left in `obj`, as KEY."""
    return [key for text in _strings(obj) for key in RUN_REFERENCE.findall(text)]


def find_references(obj: Any) -> list[str]:
    """The `${KEY}` in `obj`, as KEY; not those of a resolver."""
    return [key for text in _strings(obj) for key in _REFERENCE.findall(text)]


def rewrite_paths_for_remote(obj: Any, repo_root: str | PurePath) -> Any:
    """Return `obj` as a remote job needs it: `${oc.env:PWD}`, `${oc.env:NEMO_RUN_DIR…}`, paths under `repo_root`."""
    root = PurePath(repo_root)
    return _map_strings(obj, lambda text: _rewrite(text, root))


def resolve_working_directory(obj: Any, directory: PurePath) -> Any:
    """Return `obj` with `${oc.env:PWD}` as the directory, for a job that starts in another one."""
    return _map_strings(obj, lambda text: _PWD.sub(lambda _: str(directory), text))


def _rewrite(text: str, root: PurePath) -> str:
    text = _RUN_DIR.sub(REMOTE_RUN_DIR, _PWD.sub(REMOTE_CODE_DIR, text))
    path = PurePath(text)
    if path.is_absolute() and path.is_relative_to(root):
        return str(PurePath(REMOTE_CODE_DIR) / path.relative_to(root))
    return text


def _substitute(text: str, run: Mapping[str, Any], seen: tuple[str, ...]) -> Any:
    whole = RUN_REFERENCE.fullmatch(text)
    if whole:
        return _lookup(whole, run, seen)
    return RUN_REFERENCE.sub(lambda match: str(_lookup(match, run, seen)), text)


def _lookup(match: re.Match[str], run: Mapping[str, Any], seen: tuple[str, ...]) -> Any:
    key = match[1]
    if key in seen:
        raise ConfigError(f"${{run.{key}}}: refers to itself: {' → '.join((*seen, key))}")
    value: Any = run
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return match[0]
        value = value[part]
    return _map_strings(value, lambda text: _substitute(text, run, (*seen, key)))


def _map_strings(obj: Any, change: Callable[[str], Any]) -> Any:
    if isinstance(obj, str):
        return change(obj)
    if isinstance(obj, Mapping):
        return {key: _map_strings(value, change) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_map_strings(value, change) for value in obj]
    return obj


def _strings(obj: Any) -> Iterator[str]:
    if isinstance(obj, str):
        yield obj
    elif isinstance(obj, Mapping):
        for value in obj.values():
            yield from _strings(value)
    elif isinstance(obj, list | tuple):
        for value in obj:
            yield from _strings(value)
