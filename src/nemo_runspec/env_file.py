"""Where env.toml is and what its tables say, with the standard library only; `nemo_runspec.env` makes configs of them.

The file is `$NEMOTRON_ENV_FILE`, or the env.toml found going up from the working directory to the first pyproject.toml.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_runspec.errors import ConfigError, ConfigNotFound, did_you_mean

FILE_NAME = "env.toml"
SETTINGS_TABLES = frozenset({"wandb", "artifacts", "cache", "cli", "notify"})


def find_env_file(path: str | Path | None = None) -> Path | None:
    """Return the env.toml in force, None when there is none.

    Raises:
        FileNotFoundError: the file given, or named by `$NEMOTRON_ENV_FILE`, is missing.
    """
    named = path or os.environ.get("NEMOTRON_ENV_FILE")
    if named:
        if not Path(named).is_file():
            origin = "given" if path else "from $NEMOTRON_ENV_FILE"
            step = "name another" if path else "create it, or unset that variable"
            raise ConfigNotFound(f"{named}: no such profile file ({origin}); {step}")
        return Path(named)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
        if (folder / "pyproject.toml").is_file():
            return None
    return None


def load_env_file(path: str | Path | None = None) -> dict[str, Any]:
    """Return the tables of env.toml, none when there is no such file.

    Raises:
        FileNotFoundError: the file is named and missing.
        ValueError: bad TOML, with file and line; or something else than a table at the top.
    """
    found = find_env_file(path)
    if found is None:
        return {}
    try:
        tables = tomllib.loads(found.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{found}: bad TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{found}: {error.strerror}; make it a file you can read") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{found}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{found}: {name} = {table!r}; expected a table [{name}]")
    return tables


def profile_tables(tables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Those of env.toml's tables that are profiles, by name."""
    return {name: table for name, table in tables.items() if name not in SETTINGS_TABLES}


def profile_layers(tables: Mapping[str, Any], name: str, path: Path) -> list[dict[str, Any]]:
    """The profile's table after those that it `extends`, the furthest first; `path` is named in errors.

    Raises:
        ValueError: unknown profile or parent, or cyclic `extends`.
    """
    profiles = profile_tables(tables)
    chain: list[str] = []
    layers: list[dict[str, Any]] = []
    wanted: object = name
    while wanted is not None:
        if not isinstance(wanted, str) or wanted not in profiles:
            raise _not_found(wanted, path, list(profiles), child=chain[-1] if chain else None)
        if wanted in chain:
            raise ConfigError(f"{path}: profile {name!r}: cyclic extends: {' → '.join([*chain, wanted])}; remove one")
        chain.append(wanted)
        layer = dict(profiles[wanted])
        wanted = layer.pop("extends", None)
        layers.insert(0, layer)
    return layers


def _not_found(name: object, path: Path, profiles: list[str], *, child: str | None) -> ConfigError:
    origin = f"profile {child!r} extends {name!r}, which is" if child else f"profile {name!r}"
    return ConfigError(
        f"{path}: {origin} not found; have: {', '.join(profiles) or 'none'}.{did_you_mean(str(name), profiles)}"
    )
