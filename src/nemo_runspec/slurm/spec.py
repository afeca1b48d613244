"""What a stage asks of Slurm, and the command that each node of its job runs. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Launcher = Literal["direct", "torchrun", "ray"]

JOB_DIR = "/@job-dir@"
"""Stands for an attempt's own directory in what is rendered once for all attempts of a stage."""


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """The same for all attempts of a stage; paths of an attempt begin with `JOB_DIR`.

    `command` is the script's argv without a launcher, its interpreter first. `mem` and `time_limit` are as sbatch takes
    them ("64G", "04:00:00"); `sbatch` holds further long options of it, without dashes (True: a flag).
    """

    stage: str
    launcher: Launcher
    command: tuple[str, ...]
    nproc_per_node: int = 1
    nodes: int = 1
    ntasks_per_node: int = 1
    gpus_per_node: int = 0
    cpus_per_task: int | None = None
    mem: str | None = None
    time_limit: str | None = None
    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    nodelist: str | None = None
    exclude: str | None = None
    exclusive: bool = False
    container_image: str | None = None
    mounts: tuple[str, ...] = ()
    setup_lines: tuple[str, ...] = ()
    startup_commands: tuple[str, ...] = ()
    sbatch: Mapping[str, str | int | bool] = field(default_factory=dict)


def node_command(spec: JobSpec) -> list[str]:
    """The argv that srun starts once on each node: startup commands, then the launcher with the script."""
    python = spec.command[0]
    options = ["--nproc-per-node", str(spec.nproc_per_node)]
    command = [python, "-m", "nemo_runspec.launch", spec.launcher, *options, "--", *spec.command]
    if not spec.startup_commands:
        return command
    return ["bash", "-c", "\n".join(["set -e", *spec.startup_commands, f"exec {shlex.join(command)}"])]
