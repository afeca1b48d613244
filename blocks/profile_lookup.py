"""Finds a profile by its name: a Prefect block where a Prefect API is configured, else a table of env.toml.

Without a configured API Prefect is not imported, and no server is ever started.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nemo_runspec.env import load_env_profile
from nemo_runspec.env_file import FILE_NAME, find_env_file, load_env_file, profile_tables
from nemo_runspec.errors import ConfigError, RequirementError, did_you_mean
from nemo_runspec.profiles import Profile, parse_profile
from nemotron.blocks.prefect_api import prefect_api_url

__all__ = [
    "FoundProfile",
    "fill_in",
    "find_profile",
    "load_profile",
    "locate_profile",
    "prefect_api_url",
    "profile_names",
]

LOCAL = "local"
"""The profile that there always is: this machine, as without a profile."""

logger = logging.getLogger(__name__)

_FROM_ENVIRONMENT = re.compile(r"\$\{oc\.env:([A-Za-z_][A-Za-z0-9_]*)(?:,([^{}]*))?\}")


@dataclass(frozen=True, kw_only=True)
class FoundProfile:
    """A profile and where it came from."""

    profile: Profile
    origin: str


def find_profile(name: str, *, env_file: Path | None = None) -> Profile:
    """Return the profile of that name: its Prefect block, else its table in env.toml.

    A server that does not answer within seconds is left out with a warning if env.toml has the profile.

    Raises:
        ConfigError: there is none in either place, or it holds what a profile may not.
    """
    return locate_profile(name, env_file=env_file).profile


def locate_profile(name: str, *, env_file: Path | None = None) -> FoundProfile:
    """As `find_profile`, with where it was found."""
    url = prefect_api_url()
    trouble: RequirementError | None = None
    blocks: list[str] = []
    if url is not None:
        try:
            profile, blocks = _read_block(name, url)
        except RequirementError as error:
            trouble = error
        else:
            if profile is not None:
                return FoundProfile(profile=profile, origin=f"block on {url}")
    tables = profile_names(env_file)
    if name == LOCAL and name not in tables:
        return FoundProfile(profile=Profile(), origin="built in")
    if name not in tables:
        raise ConfigError(_not_found(name, url, trouble, blocks, tables, env_file))
    path = find_env_file(env_file)
    if trouble is not None:
        logger.warning("profile %r: %s; taking it from %s", name, trouble, path)
    return FoundProfile(profile=load_profile(name, env_file), origin=f"{FILE_NAME} ({path})")


def profile_names(env_file: Path | None = None) -> list[str]:
    """The names of the profiles in env.toml."""
    return list(profile_tables(load_env_file(env_file)))


def load_profile(name: str, env_file: Path | None = None) -> Profile:
    """The profile in env.toml with those it `extends` and `${oc.env:NAME}` filled in; other text stays as it is.

    Raises:
        ConfigError: it is not there, or holds what a profile may not.
    """
    origin = f"{find_env_file(env_file) or FILE_NAME}: profile {name!r}"
    table = OmegaConf.to_container(load_env_profile(name, env_file), resolve=False)
    return parse_profile(fill_in(table, origin), origin=origin)


def _read_block(name: str, url: str) -> tuple[Profile | None, list[str]]:
    """The profile in its block, or None and the names that there are."""
    try:
        from nemotron.blocks.env_profile import list_documents, read_profile, stored_name
    except ImportError as error:
        raise RequirementError(
            f"Prefect API {url} is set and Prefect is not installed ({error}); pip install 'nemotron-flows[flows]'"
        ) from error
    profile = read_profile(name, url)
    return profile, [] if profile is not None else [stored_name(document) for document in list_documents(url)]


def _not_found(
    name: str, url: str | None, trouble: Exception | None, blocks: list[str], tables: list[str], env_file: Path | None
) -> str:
    path = find_env_file(env_file)
    where = f"no block on {url} (have: {', '.join(blocks) or 'none'})" if url else "no Prefect API is configured"
    told = str(trouble) if trouble is not None else where
    toml = (
        f"not in {path} (have: {', '.join(tables) or 'none'})" if path else f"no {FILE_NAME} in {Path.cwd()} or above"
    )
    guess = did_you_mean(name, [*blocks, *tables])
    return f"profile {name!r} not found: {told}; {toml}.{guess} Add it to {path or FILE_NAME} as a table [{name}]"


def fill_in(value: Any, origin: str) -> Any:
    """The value with each `${oc.env:NAME}` in it replaced; `origin` begins the message where it cannot be."""
    if isinstance(value, dict):
        return {key: fill_in(item, origin) for key, item in value.items()}
    if isinstance(value, list):
        return [fill_in(item, origin) for item in value]
    if not isinstance(value, str):
        return value

    def look_up(found: re.Match[str]) -> str:
        text = os.environ.get(found[1], found[2])
        if text is None:
            raise ConfigError(
                f"{origin}: {found[0]}: the variable is not set; set it, or give ${{oc.env:{found[1]},…}}"
            )
        return text

    return _FROM_ENVIRONMENT.sub(look_up, value)
