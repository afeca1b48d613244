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

from nemo_runspec.errors import ConfigError, RequirementError, did_you_mean
from nemo_runspec.runspec import Runspec, RunspecResources

EXECUTORS = ("local", "slurm")
TUNNELS = ("local", "ssh")
_HANDED_ON = ("HF_HOME", "HF_TOKEN", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE")
# Options of sbatch that NeMo-Run's SlurmExecutor has no field for.
_FURTHER_OPTIONS = ("nodelist", "reservation")


def build_local_command(
    runspec: Runspec, train_path: str | Path, *, nproc: int = 1, passthrough: Sequence[str] = ()
) -> list[str]:
    """Return the argv that runs the script here: torchrun only for more than one process; `run.cmd` wins.

    Raises:
        ValueError: `nproc` below 1, or a `run.cmd` that cannot be split.
    """
    if runspec.run.cmd is not None:
        script = str(runspec.script_path)
        return [*fill_command(runspec, script=script, config=str(train_path)), *passthrough]
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
        # Without WANDB_BASE_URL beside it, W&B's key would go to another server there.
        **{name: os.environ.get(name) for name in _HANDED_ON},
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


def create_executor(
    env: DictConfig | Mapping[str, Any] | None,
    env_vars: Mapping[str, str],
    packager: Any,
    *,
    attached: bool = False,
    force_squash: bool = False,
    default_image: str | None = None,
    script_resources: RunspecResources | None = None,
) -> Any:
    """Return NeMo-Run's executor for the profile's `executor`: a LocalExecutor without a profile.

    An attached Slurm job goes to the profile's `run_partition`, another to its `batch_partition`; `partition` is used
    where that is not set. The script's resources count where the profile says nothing.

    Raises:
        ConfigError: an executor or tunnel that does not exist, or a tunnel without its host.
        RequirementError: NeMo-Run is not installed here, or `force_squash`, which is not done here.
    """
    profile = _as_dict(env) if env is not None else {}
    kind = profile.get("executor", "local")
    if kind not in EXECUTORS:
        raise ConfigError(
            f"profile: executor = {kind!r}; allowed: {', '.join(EXECUTORS)}.{did_you_mean(str(kind), EXECUTORS)}"
        )
    if kind == "slurm":
        _check_tunnel(profile)
    if force_squash:
        raise RequirementError(
            "force_squash: images are not squashed here; run `enroot import -o IMAGE.sqsh docker://IMAGE` on the "
            "cluster and set container_image to that file"
        )
    try:
        import nemo_run  # type: ignore[import-not-found]  # cannot be installed beside Prefect
    except ImportError as error:
        raise RequirementError(
            "create_executor needs NeMo-Run, which cannot share an environment with Prefect; pip install "
            "'nemotron-flows[nemo-run]' without [flows], or run the stage as a flow with --profile"
        ) from error
    if kind == "local":
        return nemo_run.LocalExecutor(
            ntasks_per_node=profile.get("nproc_per_node") or 1, env_vars=dict(env_vars), packager=packager
        )
    return nemo_run.SlurmExecutor(
        **_slurm_fields(profile, attached=attached, default_image=default_image, resources=script_resources),
        env_vars={name: _as_nemo_run_value(value) for name, value in env_vars.items()},
        tunnel=_create_tunnel(profile, nemo_run),
        packager=packager,
    )


def _slurm_fields(
    profile: Mapping[str, Any], *, attached: bool, default_image: str | None, resources: RunspecResources | None
) -> dict[str, Any]:
    wanted = resources or RunspecResources(nodes=1, gpus_per_node=0)
    gpus = profile.get("gpus_per_node", wanted.gpus_per_node)
    own_partition = profile.get("run_partition" if attached else "batch_partition")
    further = {name: profile.get(name) for name in _FURTHER_OPTIONS} | dict(profile.get("sbatch") or {})
    names = ("account", "cpus_per_task", "qos", "mem", "constraint", "exclude", "time")
    return {
        **{name: profile.get(name) for name in names},
        "partition": own_partition or profile.get("partition"),
        # NeMo-Run takes the prefix from the account, and fails without one.
        "job_name_prefix": None if profile.get("account") else "nemotron.",
        "nodes": profile.get("nodes") or wanted.nodes,
        "ntasks_per_node": profile.get("ntasks_per_node") or 1,
        "torchrun_nproc_per_node": profile.get("nproc_per_node"),
        "gpus_per_node": gpus if isinstance(gpus, int) and gpus > 0 else None,
        "exclusive": True if profile.get("exclusive") else None,
        "container_image": profile.get("container_image") or default_image,
        "container_mounts": list(profile.get("mounts") or []),
        "setup_lines": "\n".join(profile.get("setup_lines") or []) or None,
        "additional_parameters": {name: value for name, value in further.items() if value not in (None, False)},
    }


def _check_tunnel(profile: Mapping[str, Any]) -> None:
    kind = profile.get("tunnel", "local")
    if kind not in TUNNELS:
        raise ConfigError(f"profile: tunnel = {kind!r}; allowed: {', '.join(TUNNELS)}")
    missing = [name for name in ("host", "user", "remote_job_dir") if not profile.get(name)]
    if kind == "ssh" and missing:
        raise ConfigError(f'profile: tunnel = "ssh" also needs {", ".join(missing)}')


def _create_tunnel(profile: Mapping[str, Any], nemo_run: Any) -> Any:
    if profile.get("tunnel", "local") == "local":
        # NeMo-Run 0.11.1 writes its scripts below NEMORUN_HOME and submits from job_dir: they must be the same.
        return nemo_run.LocalTunnel(job_dir="")
    return nemo_run.SSHTunnel(
        host=profile["host"], user=profile["user"], job_dir=profile["remote_job_dir"], identity=profile.get("identity")
    )


def _as_nemo_run_value(value: str) -> str:
    """NeMo-Run 0.11.1 fills in `$name` and then writes the value into the job script as it is."""
    return shlex.quote(value).replace("$", "$$")


def _launcher(nproc: int) -> list[str]:
    if nproc == 1:
        return [sys.executable]
    # Port 0: torchrun takes a free one, so that two jobs on one machine do not meet.
    rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(nproc), *rendezvous]


def fill_command(runspec: Runspec, *, script: str, config: str) -> list[str]:
    """The runspec's own command as words, with its placeholders filled in.

    Raises:
        ValueError: it cannot be split, or is empty.
    """
    try:
        words = shlex.split(runspec.run.cmd or "")
    except ValueError as error:
        raise ConfigError(f"{runspec.script_path}: [tool.runspec.run] cmd = {runspec.run.cmd!r}: {error}") from error
    if not words:
        raise ConfigError(f"{runspec.script_path}: [tool.runspec.run] cmd is empty; give a command, or leave it out")
    return [word.replace("{script}", script).replace("{config}", config) for word in words]


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
