"""What `[wandb]` of env.toml, `run.wandb` of a config or a block says about the mirror, checked and typed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nemo_runspec.errors import ConfigError, did_you_mean
from nemo_runspec.mirror.target import WandbTarget, wandb_run_id

DEFAULT_URL = "https://api.wandb.ai"
_RESTRICTING = {"offline": "offline", "dryrun": "offline", "disabled": "disabled"}
"""What `$WANDB_MODE` may say; it can keep a run from sending, not make it send."""


class WandbSettings(BaseModel):
    """How a run is mirrored.

    `online` sends each stage's metrics while it trains and its artifact after it; `offline` leaves both to `nemotron
    artifacts sync`. `required` fails a stage whose artifact cannot be sent, for which it has `timeout_s` seconds; else
    that is a warning, as it always is of metrics and aliases.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    mode: Literal["online", "offline", "disabled"] = "online"
    entity: str | None = None
    project: str | None = None
    base_url: str | None = None
    required: bool = False
    timeout_s: float = Field(default=120.0, gt=0, allow_inf_nan=False)
    run_name: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None

    @property
    def is_on(self) -> bool:
        """Whether anything is mirrored, now or later."""
        return self.enabled and self.project is not None and self.mode != "disabled"

    def target(self, *, pipeline_run: str, stage: str, metrics: str | None) -> WandbTarget | None:
        """The W&B run of a stage; None if nothing is mirrored."""
        if not self.is_on or self.project is None or self.mode == "disabled":
            return None
        return WandbTarget(
            mode=self.mode,
            entity=self.entity,
            project=self.project,
            base_url=self.base_url or DEFAULT_URL,
            run_id=wandb_run_id(pipeline_run, stage),
            name=self.run_name or f"{stage} {pipeline_run}",
            group=pipeline_run,
            job_type=stage,
            metrics=metrics,
            tags=self.tags,
            notes=self.notes,
        )


def parse_wandb_settings(table: Mapping[str, Any], *, origin: str) -> WandbSettings:
    """The settings in the table, with `$WANDB_BASE_URL`, `$WANDB_ENTITY` and a `$WANDB_MODE` that restricts.

    Raises:
        ConfigError: an unknown key or a value that cannot be used, or `required` offline; begins with `origin`.
    """
    for key in table:
        if key not in WandbSettings.model_fields:
            allowed = ", ".join(WandbSettings.model_fields)
            raise ConfigError(f"{origin}.{key}: no such key; allowed: {allowed}.{did_you_mean(key, _FIELDS)}")
    try:
        settings = WandbSettings.model_validate(dict(table))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{origin}.{place} = {first['input']!r}: {first['msg']}; correct it") from None
    url = settings.base_url or os.environ.get("WANDB_BASE_URL") or DEFAULT_URL
    entity = settings.entity or os.environ.get("WANDB_ENTITY") or None
    mode = _restricted(settings.mode)
    found = settings.model_copy(update={"base_url": url.rstrip("/"), "entity": entity, "mode": mode})
    if found.is_on and found.required and mode == "offline":
        source = "" if mode == settings.mode else " (from WANDB_MODE)"
        raise ConfigError(
            f"{origin}.required = true with mode = {mode!r}{source}, in which nothing is sent while a stage runs; "
            "set one of them otherwise"
        )
    return found


def _restricted(mode: str) -> str:
    wanted = _RESTRICTING.get(os.environ.get("WANDB_MODE", "").lower(), mode)
    return "disabled" if "disabled" in (mode, wanted) else "offline" if "offline" in (mode, wanted) else mode


_FIELDS = tuple(WandbSettings.model_fields)
