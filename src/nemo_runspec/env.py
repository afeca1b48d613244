"""env.toml: profiles (where to run) and the `[wandb]`, `[artifacts]`, `[cache]`, `[cli]` tables.

The file is `$NEMOTRON_ENV_FILE`, or the env.toml found going up from the working directory to the first pyproject.toml.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nemo_runspec.cli_context import GlobalContext
from nemo_runspec.errors import ConfigError, ConfigNotFound, did_you_mean

FILE_NAME = "env.toml"
SETTINGS_TABLES = frozenset({"wandb", "artifacts", "cache", "cli"})


def parse_env(ctx: GlobalContext, *, config_path: str | Path | None = None) -> DictConfig | None:
    """Return the profile that the command line names, None when it names none.

    Raises:
        ValueError: as `load_env_profile`.
    """
    return None if ctx.profile is None else load_env_profile(ctx.profile, config_path)


def find_env_file(path: str | Path | None = None) -> Path | None:
    """Return the env.toml in force, None when there is none.

    Raises:
        FileNotFoundError: the file given, or named by `$NEMOTRON_ENV_FILE`, is missing.
    """
    named = path or os.environ.get("NEMOTRON_ENV_FILE")
    if named:
        if not Path(named).is_file():
            origin = "given" if path else "from $NEMOTRON_ENV_FILE"
            raise ConfigNotFound(f"{named}: no such profile file ({origin})")
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
        ValueError: bad TOML, with file and line.
    """
    found = find_env_file(path)
    if found is None:
        return {}
    try:
        return tomllib.loads(found.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{found}: bad TOML: {error}") from error


def load_env_profile(name: str, config_path: str | Path | None = None) -> DictConfig:
    """Return the named profile over those it `extends`.

    Raises:
        ValueError: unknown profile or parent, cyclic `extends`, a profile that is not a table, or bad TOML.
    """
    found = find_env_file(config_path)
    if found is None:
        raise ConfigError(
            f"profile {name!r}: no {FILE_NAME} in {Path.cwd()} or above; create one with a [{name}] table, "
            "or run without a profile"
        )
    tables = load_env_file(found)
    chain: list[str] = []
    layers: list[dict[str, Any]] = []
    wanted: object = name
    while wanted is not None:
        layer = dict(_profile(tables, wanted, found, child=chain[-1] if chain else None))
        if wanted in chain:
            raise ConfigError(f"{found}: profile {name!r}: cyclic extends: {' → '.join([*chain, str(wanted)])}")
        chain.append(str(wanted))
        wanted = layer.pop("extends", None)
        layers.insert(0, layer)
    try:
        merged = OmegaConf.merge(*layers)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{found}: profile {name!r}: {str(error).splitlines()[0]}") from error
    assert isinstance(merged, DictConfig)
    return merged


def get_wandb_config(config_path: str | Path | None = None) -> DictConfig | None:
    """The `[wandb]` table, None when there is none."""
    return _settings("wandb", config_path)


def get_artifacts_config(config_path: str | Path | None = None) -> DictConfig | None:
    """The `[artifacts]` table, None when there is none."""
    return _settings("artifacts", config_path)


def get_cache_config(config_path: str | Path | None = None) -> DictConfig | None:
    """The `[cache]` table, None when there is none."""
    return _settings("cache", config_path)


def get_cli_config(config_path: str | Path | None = None) -> DictConfig | None:
    """The `[cli]` table, None when there is none."""
    return _settings("cli", config_path)


def _profile(tables: dict[str, Any], name: object, path: Path, *, child: str | None) -> dict[str, Any]:
    profiles = [key for key, value in tables.items() if key not in SETTINGS_TABLES and isinstance(value, dict)]
    if name not in profiles:
        origin = f"profile {child!r} extends {name!r}, which is" if child else f"profile {name!r}"
        raise ConfigError(
            f"{path}: {origin} not found; have: {', '.join(profiles) or 'none'}.{did_you_mean(str(name), profiles)}"
        )
    table = tables[str(name)]
    assert isinstance(table, dict)
    return table


def _settings(name: str, config_path: str | Path | None) -> DictConfig | None:
    table = load_env_file(config_path).get(name)
    if table is None:
        return None
    if not isinstance(table, dict):
        raise ConfigError(f"{find_env_file(config_path)}: {name} = {table!r}; expected a table [{name}]")
    return OmegaConf.create(table)
