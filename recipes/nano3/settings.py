"""Typed settings of the nano3 scripts: parsed once from the train config, unknown or impossible values refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from nemo_runspec.errors import ConfigError


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


_Settings = TypeVar("_Settings", bound=Settings)


def parse_settings(kind: type[_Settings], config: Mapping[str, Any], *, origin: str) -> _Settings:
    """The config as `kind`; the section `run`, and `artifacts` of env.toml, are left out.

    Raises:
        ConfigError: in one line, each value that cannot be used, with its key and what is expected.
    """
    values = {key: value for key, value in config.items() if key not in ("run", "artifacts")}
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_describe(problem) for problem in error.errors())
        raise ConfigError(f"{origin}: {problems}") from error


def _describe(problem: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "config"
    if problem["type"] == "missing":
        return f"{key} is missing; add it"
    if problem["type"] == "extra_forbidden":
        return f"{key} is unknown; remove it"
    return f"{key} = {problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}"
