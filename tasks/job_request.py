"""What a planned stage asks of Slurm. Pure but for the values it is given."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nemo_runspec import Runspec
from nemo_runspec.errors import ConfigError
from nemo_runspec.execution import fill_command
from nemo_runspec.packaging import recipe_root
from nemo_runspec.profiles import Profile, parse_profile, partition_for
from nemo_runspec.slurm.spec import JOB_DIR, JobSpec, Launcher
from nemotron.tasks.code_snapshot import script_place

if TYPE_CHECKING:
    from nemotron.tasks.stage_options import Stage, StageOptions


def effective_profile(job_config: DictConfig) -> Profile:
    """The profile under what the recipe's config says of `run.env`."""
    name = job_config.run.profile
    keys = [item.partition("=")[0] for item in overrides_of(job_config) if item.lstrip("+").startswith("run.env.")]
    places = [f"config {job_config.run.cli.config!r}", *([f"profile {name!r}"] if name else []), *keys]
    origin = f"run.env (from {', '.join(places)})"
    try:
        table = OmegaConf.to_container(job_config.run.get("env") or OmegaConf.create({}), resolve=True)
    except OmegaConfBaseException as error:  # as ${auto_mount:…}, which is not done here
        raise ConfigError(f"{origin}: {str(error).splitlines()[0]}; correct it where it is set") from error
    assert isinstance(table, Mapping)
    return parse_profile({str(key): value for key, value in table.items()}, origin=origin)


def overrides_of(job_config: DictConfig) -> list[str]:
    """What the command line set, as it was typed: a `${…}` in it stays."""
    items = OmegaConf.to_container(job_config.run.cli.dotlist, resolve=False)
    assert isinstance(items, list)
    return [str(item) for item in items]


def build_spec(stage: Stage, runspec: Runspec, profile: Profile, options: StageOptions) -> JobSpec:
    """The stage's request: the profile where it speaks, else the script's own resources."""
    gpus = profile.gpus_per_node
    if gpus is None:
        gpus = runspec.resources.gpus_per_node if isinstance(runspec.resources.gpus_per_node, int) else 1
    image = profile.container_image
    python = profile.python or ("python" if image or profile.tunnel == "ssh" else sys.executable)
    return JobSpec(
        stage=stage.name,
        launcher=cast(Launcher, runspec.run.launch),
        command=(*script_command(stage, runspec, python, packager_of(runspec, profile)), *options.passthrough),
        nproc_per_node=profile.nproc_per_node or gpus or 1,
        nodes=profile.nodes or runspec.resources.nodes,
        ntasks_per_node=profile.ntasks_per_node or 1,
        gpus_per_node=gpus,
        cpus_per_task=profile.cpus_per_task,
        mem=profile.mem,
        time_limit=profile.time,
        account=profile.account,
        partition=partition_for(profile, attached=not options.detached),
        qos=profile.qos,
        constraint=profile.constraint,
        reservation=profile.reservation,
        nodelist=profile.nodelist,
        exclusive=profile.exclusive,
        container_image=image,
        mounts=container_mounts(stage, profile, options) if image else (),
        setup_lines=profile.setup_lines,
        startup_commands=profile.startup_commands,
        sbatch=profile.sbatch,
    )


def packager_of(runspec: Runspec, profile: Profile) -> str:
    """The name of the packager: the profile's, else the script's own."""
    return profile.packager or runspec.run.packager


def script_command(stage: Stage, runspec: Runspec, python: str, packager: str) -> tuple[str, ...]:
    """The script's argv without a launcher, its interpreter first.

    Raises:
        ConfigError: the runspec's own `cmd` starts something else than Python.
    """
    script, config = f"{JOB_DIR}/code/{script_place(stage.script, packager)}", f"{JOB_DIR}/train.yaml"
    if runspec.run.cmd is None:
        return (python, script, "--config", config)
    first, *words = fill_command(runspec, script=script, config=config)
    if first not in ("python", "python3"):
        raise ConfigError(
            f"{runspec.script_path}: [tool.runspec.run] cmd = {runspec.run.cmd!r}: on Slurm it must begin with python, "
            "which the launcher starts on each node; what comes before it goes into startup_commands of the profile"
        )
    return (python, *words)


def container_mounts(stage: Stage, profile: Profile, options: StageOptions) -> tuple[str, ...]:
    """The profile's mounts, and what a stage reads and writes under the same paths as outside."""
    folders = options.job_folders(profile).values()
    own = [path.absolute() for path in (*folders, recipe_root(stage.script), options.project_dir)]
    return tuple(dict.fromkeys([*profile.mounts, *(f"{path}:{path}" for path in own)]))
