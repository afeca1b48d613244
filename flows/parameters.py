"""The parameters of the nano3 flow as a form shows them, and what they are to a pipeline.

Nothing here knows Prefect; the flow's signature is made of these types, so that its server refuses what they do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from nemo_runspec.config.secret_overrides import SECRET_OVERRIDE
from nemo_runspec.errors import ConfigError

ConfigName = Literal["tiny", "default"]
StageName = Literal["data_prep_pretrain", "pretrain", "data_prep_sft", "sft", "data_prep_rl", "rl"]

SHOWN_TO_ALL = (
    "is named like a secret, and parameters are shown to all on the server; put it into env_vars of the profile's "
    "block, or give ${oc.env:NAME} for a variable where the stage runs"
)

# `not` is for the server alone: refused there, it is not stored. Pydantic, which our own command uses, knows no `not`.
Override = Annotated[
    str,
    Field(
        pattern=r"^\+?[A-Za-z_][^=]*=",
        examples=["train.train_iters=50"],
        json_schema_extra={"not": {"pattern": SECRET_OVERRIDE}},
    ),
]
# sbatch(1) --time
Duration = Annotated[str, Field(pattern=r"^(\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2})$", examples=["04:00:00"])]


def _keep_order(schema: dict[str, Any]) -> None:
    """Prefect's form sorts by `position`; without it PostgreSQL's order is shown, which is by the length of names."""
    for position, field in enumerate(schema["properties"].values()):
        field["position"] = position


class StageParameters(BaseModel):
    """One stage of the chain."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_keep_order)

    enabled: bool = Field(
        default=True, description="Run it; else what the others need of it is the newest that there is"
    )
    config: str | None = Field(
        default=None, description="A config of this stage's own: a name, or the path of a YAML file on the worker"
    )
    overrides: list[Override] = Field(
        default=[], description="Settings of this stage, as train.train_iters=50; no secrets, all can read them"
    )
    nodes: int | None = Field(default=None, ge=1, description="Number of nodes, instead of the profile's")
    time: Duration | None = Field(default=None, description="Time limit of each of its jobs, as 04:00:00")

    def all_overrides(self) -> list[str]:
        """Nodes and time first, so that an override of the same key wins."""
        own = {"run.env.nodes": self.nodes, "run.env.time": self.time}
        return [*(f"{key}={value}" for key, value in own.items() if value is not None), *self.overrides]


def chain_parameters(by_stage: Mapping[str, StageParameters]) -> dict[str, Any]:
    """`stages`, `overrides` and `configs` of `build_pipeline` for what the form says.

    Raises:
        ConfigError: no stage is enabled.
    """
    enabled = tuple(name for name, stage in by_stage.items() if stage.enabled)
    if not enabled:
        raise ConfigError(f"no stage is enabled; have: {', '.join(by_stage)}; enable one")
    return {
        "stages": () if len(enabled) == len(by_stage) else enabled,
        "overrides": tuple(f"{name}.{item}" for name, stage in by_stage.items() for item in stage.all_overrides()),
        "configs": {name: stage.config for name, stage in by_stage.items() if stage.config},
    }


def form_parameters(*, config: str, stages: Sequence[str], overrides: Sequence[str]) -> dict[str, Any]:
    """What the form says for what a command line asks; the way back is `chain_parameters`."""
    named = config in get_args(ConfigName)
    pairs = [item.partition(".") for item in overrides]
    by_stage = {
        name: StageParameters(
            enabled=not stages or name in stages,
            config=None if named else config,
            overrides=[override for stage, _, override in pairs if stage == name],
        )
        for name in get_args(StageName)
    }
    return {"config": config if named else "default", **by_stage}


def what_runs(parameters: Mapping[str, Any]) -> list[str]:
    """For a run's name: its config, that of the first stage that runs, and the stages if these are not all."""
    by_stage = {name: StageParameters.model_validate(parameters[name]) for name in get_args(StageName)}
    enabled = [name for name, stage in by_stage.items() if stage.enabled]
    config = next((by_stage[name].config for name in enabled), None) or parameters["config"]
    return [PurePath(config).stem, "" if len(enabled) == len(by_stage) else "+".join(enabled)]
