"""Profiles, which say where and how stages run: parsed from a table of env.toml, checked, written as TOML again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pydantic import ConfigDict, Field, ValidationError, field_validator

from nemo_runspec.config.provenance import hide_secrets
from nemo_runspec.env import SETTINGS_TABLES
from nemo_runspec.errors import ConfigError, did_you_mean
from nemo_runspec.profile_fields import (
    ENV_VARS,
    KNOWN_EXECUTORS,
    SUPPORTED_EXECUTORS,
    ProfileFields,
    check_env_vars,
)

_SHOWN_CHARACTERS = 80
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Profile(ProfileFields):
    """Where and how stages run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    env_vars: dict[str, str] = Field(default_factory=dict, description=ENV_VARS)

    @field_validator("env_vars", mode="before")
    @classmethod
    def _check_env_vars(cls, value: object) -> dict[str, str]:
        return check_env_vars(value)


def parse_profile(table: Mapping[str, Any], *, origin: str) -> Profile:
    """Return the profile of that table; `origin` (file and name) begins the message if it is refused.

    Of an executor that is known and not run here, what has no field or does not fit its field goes to `extra`.
    NeMo-Run's `additional_parameters` are `sbatch`.

    Raises:
        ConfigError: fields that do not exist or hold what they may not.
    """
    given = {str(key): value for key, value in table.items()}
    own = set(Profile.model_fields) - {"extra"}
    executor = given.get("executor")
    foreign = executor in KNOWN_EXECUTORS and executor not in SUPPORTED_EXECUTORS
    if not foreign and "additional_parameters" in given:
        if "sbatch" in given:
            raise ConfigError(f"{origin}: sbatch and additional_parameters are the same; keep one of them")
        given["sbatch"] = _with_dashes(given.pop("additional_parameters"))
    unknown = {key: given.pop(key) for key in list(given) if key not in own}
    if foreign:
        return _parse_foreign(given, unknown, origin)
    problems = [_describe_unknown(key, value, own) for key, value in unknown.items()]
    try:
        profile = Profile.model_validate(given)
    except ValidationError as error:
        raise config_error(error, origin=origin, problems=problems) from None  # its input may hold secrets
    if problems:
        raise _refusal(origin, problems)
    return profile


def profile_table(profile: Profile) -> dict[str, Any]:
    """Return what differs from the defaults, such that `parse_profile` gives the same profile."""
    table = profile.model_dump(mode="json", exclude_defaults=True)
    extra = table.pop("extra", {})
    return {**table, **extra}


def profile_config(profile: Profile) -> DictConfig:
    """`profile_table` as a config in which each text stays what it is: the shell's `${HOME}` is not interpolated."""
    config: DictConfig = OmegaConf.create(_escape(profile_table(profile)))
    return config


def format_toml(name: str, profile: Profile) -> str:
    """Return the table of env.toml that parses to this profile.

    Raises:
        ConfigError: the name is one of env.toml's tables for settings.
    """
    if name in SETTINGS_TABLES:
        raise ConfigError(f"profile {name!r}: env.toml has settings under this name; choose another")
    table = profile_table(profile)
    subtables = {key: value for key, value in table.items() if isinstance(value, dict)}
    lines = [f"[{_format_key(name)}]", *_format_items({k: v for k, v in table.items() if k not in subtables})]
    for key, value in subtables.items():
        lines += ["", f"[{_format_key(name)}.{_format_key(key)}]", *_format_items(value)]
    return "\n".join([*lines, ""])


def partition_for(profile: Profile, attached: bool) -> str | None:
    """The partition of an attached or a detached run."""
    return (profile.run_partition if attached else profile.batch_partition) or profile.partition


def check_supported(profile: Profile, name: str | None) -> None:
    """Raise ConfigError for an executor that is known and not run here."""
    if profile.executor not in SUPPORTED_EXECUTORS:
        raise ConfigError(
            f"profile {name!r}: executor {profile.executor!r} is not run here; allowed: "
            f"{', '.join(SUPPORTED_EXECUTORS)}. Choose a profile with one of these"
        )


def config_error(error: ValidationError, *, origin: str, problems: list[str] | None = None) -> ConfigError:
    """The ConfigError for what pydantic found, in one line, after `problems`; values of env_vars stay out of it."""
    return _refusal(origin, [*(problems or []), *_describe_all(error)])


def _with_dashes(options: Any) -> Any:
    """NeMo-Run writes `mail_type` as sbatch's `--mail-type`."""
    if not isinstance(options, Mapping):
        return options
    return {str(name).replace("_", "-"): value for name, value in options.items()}


def _parse_foreign(given: dict[str, Any], unknown: dict[str, Any], origin: str) -> Profile:
    extra = {key: value for key, value in unknown.items() if value is not None}
    try:
        return Profile.model_validate({**given, "extra": extra})
    except ValidationError as error:
        unfit = {str(item["loc"][0]) for item in error.errors() if item["loc"]} & given.keys()
        if not unfit:
            raise config_error(error, origin=origin) from None
    extra |= {key: given.pop(key) for key in unfit}
    return _parse_foreign(given, extra, origin)


def _refusal(origin: str, problems: list[str]) -> ConfigError:
    said = "; ".join(dict.fromkeys(problems))
    return ConfigError(f"{origin}: {said}{'' if said.endswith('?') else '.'} Correct this where it is set")


def _describe_unknown(key: str, value: Any, own: set[str]) -> str:
    shown = hide_secrets({key: value})[key]
    guess = did_you_mean(key, sorted(own))
    return f"{key} = {_shorten(shown)}: no such field{'.' + guess if guess else ''}"


def _describe_all(error: ValidationError) -> list[str]:
    return [_describe(item["loc"], item["msg"], item["input"]) for item in error.errors(include_url=False)]


def _describe(loc: tuple[int | str, ...], message: str, value: Any) -> str:
    said = message.removeprefix("Value error, ").replace("Input should be", "expected", 1)
    if not loc:
        return said
    place = ".".join(map(str, loc))
    if loc[0] == "env_vars":
        return f"{place}: {said}"
    literal = re.findall(r"'([^']*)'", said) if said.startswith("expected '") else []
    guess = did_you_mean(value, literal) if isinstance(value, str) else ""
    return f"{place} = {_shorten(hide_secrets(value))}: {said}{'.' + guess if guess else ''}"


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _escape(value: Any) -> Any:
    """The value with OmegaConf's `${` as text in each string, in which a backslash before it counts too."""
    if isinstance(value, dict):
        return {key: _escape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escape(item) for item in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def _format_items(table: Mapping[str, Any]) -> list[str]:
    return [f"{_format_key(key)} = {_format_value(value)}" for key, value in table.items()]


def _format_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _format_value(key)


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_format_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(_format_items(value))}}}"
    # TOML: basic strings escape as JSON's do, and DEL too.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
