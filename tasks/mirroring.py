"""A stage on W&B: which run it is there, and its artifact sent once the store has it.

The store never waits for it: what cannot be sent now is a warning and waits for `nemotron artifacts sync`, unless the
mirror is `required`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.errors import RequirementError, RunspecError, StageCancelled, StageFailed
from nemo_runspec.mirror.follower import is_installed
from nemo_runspec.mirror.intake import ForeignSource
from nemo_runspec.mirror.server import LATER, WandbServer, no_key
from nemo_runspec.mirror.settings import DEFAULT_URL, WandbSettings, parse_wandb_settings
from nemo_runspec.mirror.target import ENV_WANDB, WandbTarget
from nemo_runspec.mirror.wanted import want
from nemotron.blocks.store_settings import wandb_server
from nemotron.tasks.interrupts import Interrupts

if TYPE_CHECKING:
    from nemotron.tasks.plan import StagePlan
    from nemotron.tasks.stage_options import StageOptions

logger = logging.getLogger(__name__)


def wandb_settings(job_config: DictConfig) -> WandbSettings:
    """What `run.wandb` of the job config says; `[wandb]` of env.toml and the store's block are merged into it.

    Raises:
        ConfigError: an unknown key or a value that cannot be used.
    """
    table = OmegaConf.select(job_config, "run.wandb")
    plain = OmegaConf.to_container(table, resolve=True) if OmegaConf.is_config(table) else table
    known = {str(key): value for key, value in plain.items()} if isinstance(plain, Mapping) else {}
    return parse_wandb_settings(known, origin="run.wandb")


def wandb_target(job_config: DictConfig, options: StageOptions, stage: str, work_dir: Path) -> WandbTarget | None:
    """The stage's W&B run, None if nothing is mirrored."""
    metrics = str(work_dir.absolute() / "metrics.jsonl")
    return wandb_settings(job_config).target(pipeline_run=options.run_id, stage=stage, metrics=metrics)


def wandb_source(job_config: DictConfig, options: StageOptions) -> ForeignSource:
    """Where artifacts come from that others put on W&B; whether and how this run is mirrored does not matter."""
    settings = wandb_settings(job_config)
    return ForeignSource(server=_server(settings, options), entity=settings.entity)


def _server(settings: WandbSettings, options: StageOptions) -> WandbServer:
    return wandb_server(settings.base_url or DEFAULT_URL, options.project_dir)


def wandb_environment(plan: StagePlan, options: StageOptions) -> dict[str, str]:
    """What the script needs to know to send its metrics: where they go, and the key with the server that it is for."""
    if plan.wandb is None:
        return {}
    server = wandb_server(plan.wandb.base_url, options.project_dir)
    access = {}
    if plan.wandb.mode == "online" and server.api_key is not None:
        access = {"WANDB_BASE_URL": server.base_url, "WANDB_API_KEY": server.api_key.get_secret_value()}
    return {ENV_WANDB: plan.wandb.model_dump_json(), **access}


def check_mirror(job_config: DictConfig, options: StageOptions) -> None:
    """Say once a run what keeps W&B from being used.

    Raises:
        RequirementError: and it is `required`.
    """
    settings = wandb_settings(job_config)
    if not settings.is_on or settings.mode != "online":
        return
    problem = _find_problem(settings, options)
    if problem and settings.required:
        raise RequirementError(f"{problem} (run.wandb.required = true)")
    if problem:
        _warn_once(options.run_id, f"{problem}; the run goes on without it")


def _find_problem(settings: WandbSettings, options: StageOptions) -> str | None:
    if not is_installed("wandb"):
        return f"W&B: wandb is not installed; pip install 'nemotron-flows[wandb]', {LATER}"
    server = _server(settings, options)
    return None if server.api_key is not None else str(no_key(server.base_url))


@lru_cache(maxsize=64)
def _warn_once(run_id: str, line: str) -> None:  # noqa: ARG001
    logger.warning("%s", line)


def mirror(
    plan: StagePlan,
    options: StageOptions,
    store: ArtifactStore,
    ref: ArtifactRef | None,
    interrupts: Interrupts,
) -> None:
    """Send the stage's artifact and what it was made from, or note that it waits.

    What cannot be done is a warning; it is an error of the artifact only, and only where that is `required`.

    Raises:
        StageFailed: W&B does not have the required artifact; the same command tries again, without running the stage.
        StageCancelled: somebody cancelled the run before W&B had the artifact.
    """
    if plan.wandb is None or ref is None:
        return
    is_cancelled = interrupts.is_cancelled
    settings = wandb_settings(plan.job_config)
    try:
        said, is_there = _send(plan.wandb, settings, options, store, ref, is_cancelled=is_cancelled)
    except (RunspecError, OSError) as error:
        said, is_there = [str(error)], False
    if is_there:
        for line in said:
            _warn_once(options.run_id, f"{plan.stage.name}: not sent to W&B: {line}")
        return
    if is_cancelled(now=True):
        raise StageCancelled(f"{plan.stage.name}: cancelled while {ref} was being sent to W&B; it is in the store")
    problem = f"{plan.stage.name}: {ref} is in the store and not on W&B: {'; '.join(said) or 'nothing was sent'}"
    if settings.required:
        raise StageFailed(problem, may_retry=True)
    _warn_once(options.run_id, problem)


def _send(
    target: WandbTarget,
    settings: WandbSettings,
    options: StageOptions,
    store: ArtifactStore,
    ref: ArtifactRef,
    *,
    is_cancelled: Callable[[], bool],
) -> tuple[list[str], bool]:
    """What was not sent and why, and whether the artifact is where it should be now; offline that is the outbox."""
    from nemo_runspec.mirror.pins import find_pin
    from nemo_runspec.mirror.probe import find_fault
    from nemo_runspec.mirror.sync import sync

    want(store, ref, target)
    if target.mode != "online":
        return [], True
    if not is_installed("wandb"):
        return ["wandb is not installed"], False
    server = _server(settings, options)
    if fault := find_fault(server):  # at once, where the client would try for minutes
        return [str(fault)], False
    report = sync(store, server, only=[ref], timeout_s=settings.timeout_s, is_cancelled=is_cancelled)
    lines = [f"{what}: {why}" for what, why in report.failed.items()]
    return lines, find_pin(store, ref, server, target=target) is not None
