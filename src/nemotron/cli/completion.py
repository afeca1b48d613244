"""What the shell offers when Tab is pressed. Quick and silent: directory names only, and nothing at all on an error."""

from __future__ import annotations

import re
from pathlib import Path

from nemotron.cli.store_root import find_directory

_RECORD = re.compile(r"v(0|[1-9][0-9]*)\.json")


def complete_artifact(incomplete: str) -> list[str]:
    """Names, and `name:version` and `name:alias` once the name is clear, that begin like this."""
    try:
        store = find_directory()
        return _list_references(store / "artifacts", incomplete) if store else []
    except (OSError, RuntimeError, ValueError):
        return []


def _list_references(artifacts: Path, incomplete: str) -> list[str]:
    wanted, colon, _ = incomplete.partition(":")
    names = sorted(path.name for path in artifacts.iterdir() if _list_versions(path))
    if not colon:
        names = [name for name in names if name.startswith(wanted)]
        clear = names if len(names) == 1 else [name for name in names if name == wanted]
        return [*names, *(reference for name in clear for reference in _list_selectors(artifacts / name))]
    if wanted not in names:
        return []
    return [reference for reference in _list_selectors(artifacts / wanted) if reference.startswith(incomplete)]


def _list_selectors(directory: Path) -> list[str]:
    aliases = directory / "aliases"
    words = sorted(path.name for path in aliases.iterdir()) if aliases.is_dir() else []
    return [f"{directory.name}:{word}" for word in ["latest", *words, *_list_versions(directory)]]


def _list_versions(directory: Path) -> list[str]:
    """Newest first."""
    versions = directory / "versions"
    names = [path.name for path in versions.iterdir()] if versions.is_dir() else []
    numbers = sorted((int(match[1]) for name in names if (match := _RECORD.fullmatch(name))), reverse=True)
    return [f"v{number}" for number in numbers]
