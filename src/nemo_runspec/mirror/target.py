"""Which W&B run a stage's metrics and artifacts belong to; travels in the version record and in the environment."""

from __future__ import annotations

import os
import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from nemo_runspec.errors import ConfigError

ENV_WANDB = "NEMOTRON_WANDB"

Mode = Literal["online", "offline"]

_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_.-]+")
_MAX_ID = 128


class WandbTarget(BaseModel):
    """The W&B run of one stage of one pipeline run; all stages of it have the same `group`, the pipeline run's id.

    `offline`: nothing is sent while the stage runs; `nemotron artifacts sync` does it later. `entity` None is the API
    key's default one. `metrics` is the absolute path of the stage's metrics.jsonl.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode
    entity: str | None = None
    project: str
    base_url: str = "https://api.wandb.ai"
    run_id: str
    name: str
    group: str
    job_type: str
    metrics: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None

    @property
    def server_url(self) -> str:
        """`base_url` without a slash at its end, as servers are told apart."""
        return self.base_url.rstrip("/")

    @classmethod
    def from_environment(cls) -> Self | None:
        """What `$NEMOTRON_WANDB` says, None where it is not set.

        Raises:
            ConfigError: it cannot be understood.
        """
        text = os.environ.get(ENV_WANDB)
        if not text:
            return None
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ConfigError(f"{ENV_WANDB} = {text!r} is not what a stage hands to its script; unset it") from error


def wandb_run_id(pipeline_run: str, stage: str) -> str:
    """The id of the stage's W&B run: the same at every attempt, so that a resumed stage goes on with its curves."""
    return _NOT_IN_AN_ID.sub("-", f"{pipeline_run}-{stage}")[-_MAX_ID:]
