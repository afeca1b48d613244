"""Run a script on this machine: the command, its environment, and a blocking call. Knows no scheduler."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nemo_runspec.errors import ConfigError
from nemo_runspec.runspec import Runspec


def build_local_command(
    runspec: Runspec, train_path: str | Path, *, nproc: int = 1, passthrough: Sequence[str] = ()
) -> list[str]:
    """Return the argv that runs the script here: torchrun only for more than one process; `run.cmd` wins.

    Raises:
        ValueError: `nproc` below 1, or a `run.cmd` that cannot be split.
    """
    if runspec.run.cmd is not None:
        return [*_fill_command(runspec, str(train_path)), *passthrough]
    if nproc < 1:
        raise ConfigError(f"nproc_per_node = {nproc}; expected 1 or more")
    launcher = _launcher(nproc if runspec.run.launch == "torchrun" else 1)
    return [*launcher, str(runspec.script_path), "--config", str(train_path), *passthrough]


def build_env_vars(
    job_config: DictConfig | Mapping[str, Any], env_config: DictConfig | Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Return the variables a job gets: NEMO_RUN_DIR, HF_*, WANDB_*, and the profile's env_vars last.

    `env_config` is the profile; `run.env` of the job by default. Needs no network; what is not set is left out.
    """
    run = _as_dict(job_config).get("run") or {}
    profile = _as_dict(env_config) if env_config is not None else (run.get("env") or {})
    wandb = run.get("wandb") or {}
    run_dir = profile.get("remote_job_dir") or os.environ.get("NEMO_RUN_DIR") or str(Path.cwd())
    wanted = {
        "NEMO_RUN_DIR": run_dir,
        **{name: os.environ.get(name) for name in ("HF_HOME", "HF_TOKEN", "WANDB_API_KEY", "WANDB_MODE")},
        "WANDB_PROJECT": wandb.get("project") or os.environ.get("WANDB_PROJECT"),
        "WANDB_ENTITY": wandb.get("entity") or os.environ.get("WANDB_ENTITY"),
        **(profile.get("env_vars") or {}),
    }
    return {name: str(value) for name, value in wanted.items() if value is not None}


def execute_local(
    script_path: str | Path,
    train_path: str | Path,
    passthrough: Sequence[str],
    *,
    torchrun: bool = True,
    env_vars: Mapping[str, str] | None = None,
    startup_commands: Sequence[str] | None = None,
) -> None:
    """Run the script to its end; raise SystemExit with its code when that is not 0 (128 + N for signal N).

    With `torchrun`, starts `run.env.nproc_per_node` processes, as job.yaml beside the train config says. The startup
    commands run first, in the same shell, and the first that fails ends it.
    """
    nproc = _nproc_beside(Path(train_path)) if torchrun else 1
    command = [*_launcher(nproc), str(script_path), "--config", str(train_path), *passthrough]
    if startup_commands:
        command = ["bash", "-c", "\n".join(["set -e", *startup_commands, f"exec {shlex.join(command)}"])]
    code = subprocess.run(command, env={**os.environ, **(env_vars or {})}, check=False).returncode
    if code != 0:
        raise SystemExit(code if code > 0 else 128 - code)


def _launcher(nproc: int) -> list[str]:
    if nproc == 1:
        return [sys.executable]
    # Port 0: torchrun takes a free one, so that two jobs on one machine do not meet.
    rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(nproc), *rendezvous]


def _fill_command(runspec: Runspec, train_path: str) -> list[str]:
    try:
        words = shlex.split(runspec.run.cmd or "")
    except ValueError as error:
        raise ConfigError(f"{runspec.script_path}: [tool.runspec.run] cmd = {runspec.run.cmd!r}: {error}") from error
    script = str(runspec.script_path)
    return [word.replace("{script}", script).replace("{config}", train_path) for word in words]


def _nproc_beside(train_path: Path) -> int:
    job_path = train_path.with_name("job.yaml")
    if not job_path.is_file():
        return 1
    nproc = OmegaConf.select(OmegaConf.load(job_path), "run.env.nproc_per_node") or 1
    if not isinstance(nproc, int) or nproc < 1:
        raise ConfigError(f"{job_path}: run.env.nproc_per_node = {nproc!r}; expected a whole number, 1 or more")
    return nproc


def _as_dict(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    container = OmegaConf.to_container(config, resolve=False) if isinstance(config, DictConfig) else config
    assert isinstance(container, Mapping)
    return {str(key): value for key, value in container.items()}
