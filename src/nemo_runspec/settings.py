"""Settings from `NEMOTRON_…` variables of the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from nemo_runspec.errors import ConfigError

PREFIX = "NEMOTRON_"


class Settings(BaseSettings):
    """Each field is the variable of that name in upper case after `NEMOTRON_`; an empty one counts as unset."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    store: str | None = Field(default=None, description="Directory or URL of the artifact store")
    env_file: Path | None = Field(default=None, description="The env.toml in force")
    profile: str | None = Field(default=None, description="Name of the default profile")
    poll_interval_s: float | None = Field(
        default=None, ge=1, allow_inf_nan=False, description="Seconds between two queries of Slurm"
    )


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        ConfigError: a variable that cannot be used, with its value.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = [
            f"{PREFIX}{str(item['loc'][0]).upper()} = {item['input']!r}: "
            f"{item['msg'].replace('Input should be', 'expected', 1)}"
            for item in error.errors(include_url=False)
        ]
        raise ConfigError(f"environment: {'; '.join(problems)}; correct or unset it") from None
