"""A stage on W&B: which run it is there, and its artifact sent once the store has it.

The store never waits for it: what cannot be sent now is a warning and waits for `nemotron artifacts sync`, unless the
mirror is `required`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.errors import MirrorError, RequirementError, StageFailed
from nemo_runspec.mirror.follower import is_installed
from nemo_runspec.mirror.intake import ForeignSource
from nemo_runspec.mirror.server import LATER, WandbServer
from nemo_runspec.mirror.settings import DEFAULT_URL, WandbSettings, parse_wandb_settings
from nemo_runspec.mirror.target import ENV_WANDB, WandbTarget
from nemo_runspec.mirror.wanted import want
from nemotron.blocks.store_settings import find_store_settings

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


def wandb_server(settings: WandbSettings, options: StageOptions) -> WandbServer:
    """The server with the key for it: that of the store's block, else the environment's."""
    server = WandbServer.at(settings.base_url or DEFAULT_URL)
    of_block = find_store_settings(options.project_dir).api_key
    return replace(server, api_key=of_block) if of_block else server


def wandb_source(job_config: DictConfig, options: StageOptions) -> ForeignSource:
    """Where artifacts come from that others put on W&B; whether and how this run is mirrored does not matter."""
    settings = wandb_settings(job_config)
    entity = settings.entity or os.environ.get("WANDB_ENTITY") or None
    return ForeignSource(server=wandb_server(settings, options), entity=entity)


def wandb_environment(plan: StagePlan, options: StageOptions) -> dict[str, str]:
    """What the script needs to know to send its metrics; the key only where the environment does not have it."""
    if plan.wandb is None:
        return {}
    of_block = find_store_settings(options.project_dir).api_key
    key = {"WANDB_API_KEY": of_block.get_secret_value()} if of_block and plan.wandb.mode == "online" else {}
    return {ENV_WANDB: plan.wandb.model_dump_json(), **key}


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
    server = wandb_server(settings, options)
    if server.api_key is None:
        return f"W&B {server.base_url}: no API key; set WANDB_API_KEY, {LATER}"
    return None


@lru_cache(maxsize=64)
def _warn_once(run_id: str, line: str) -> None:  # noqa: ARG001
    logger.warning("%s", line)


def mirror(plan: StagePlan, options: StageOptions, store: ArtifactStore, ref: ArtifactRef | None) -> None:
    """Send the stage's artifact and what it was made from, or note that it waits.

    Raises:
        StageFailed: it could not be sent and is `required`; the same command tries again, without running the stage.
    """
    if plan.wandb is None or ref is None:
        return
    want(store, ref, plan.wandb)
    if plan.wandb.mode != "online":
        return
    settings = wandb_settings(plan.job_config)
    server = wandb_server(settings, options)
    try:
        problem = _send(store, server, ref, timeout_s=settings.timeout_s)
    except MirrorError as error:
        problem = str(error)
    if problem and settings.required:
        raise StageFailed(f"{plan.stage.name}: {ref} is in the store and not on W&B: {problem}", may_retry=True)
    if problem:
        _warn_once(options.run_id, f"{plan.stage.name}: {ref} waits to be sent: {problem}")


def _send(store: ArtifactStore, server: WandbServer, ref: ArtifactRef, *, timeout_s: float) -> str | None:
    """Why it is not on the server, None if it is."""
    from nemo_runspec.mirror.probe import ask_user
    from nemo_runspec.mirror.sync import sync

    if not is_installed("wandb"):
        return "wandb is not installed"
    ask_user(server)  # at once, where the client would try for minutes
    report = sync(store, server, only=[ref], timeout_s=timeout_s)
    return "; ".join(f"{what}: {why}" for what, why in report.failed.items()) or None
