"""env.toml: profiles (where to run) and the `[wandb]`, `[artifacts]`, `[cache]`, `[cli]` tables.

The file is `$NEMOTRON_ENV_FILE`, or the env.toml found going up from the working directory to the first pyproject.toml.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nemo_runspec.cli_context import GlobalContext
from nemo_runspec.env_file import FILE_NAME, SETTINGS_TABLES, find_env_file, load_env_file, profile_layers
from nemo_runspec.errors import ConfigError

__all__ = [
    "FILE_NAME",
    "SETTINGS_TABLES",
    "find_env_file",
    "get_artifacts_config",
    "get_cache_config",
    "get_cli_config",
    "get_wandb_config",
    "load_env_file",
    "load_env_profile",
    "parse_env",
]


def parse_env(ctx: GlobalContext, *, config_path: str | Path | None = None) -> DictConfig | None:
    """Return the profile that the command line names, None when it names none.

    Raises:
        ValueError: as `load_env_profile`.
    """
    return None if ctx.profile is None else load_env_profile(ctx.profile, config_path)


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
    layers = profile_layers(load_env_file(found), name, found)
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


def _settings(name: str, config_path: str | Path | None) -> DictConfig | None:
    table = load_env_file(config_path).get(name)
    return None if table is None else OmegaConf.create(table)
