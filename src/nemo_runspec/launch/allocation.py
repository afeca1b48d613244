"""What Slurm tells a process about its job step and this node, parsed once from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nemo_runspec.errors import ConfigError, RunspecError

ENV_JOB_DIR = "NEMOTRON_JOB_DIR"
ENV_TIMEOUT = "NEMOTRON_RENDEZVOUS_TIMEOUT_S"
DEFAULT_TIMEOUT_S = 300


class LaunchError(RunspecError):
    """The nodes did not come together, or one was lost; the script itself is not at fault."""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """This node among those of a job step. `mem_mb`, `num_gpus`: None where Slurm does not say."""

    node: int = 0
    num_nodes: int = 1
    job_id: int = 0
    step: str = "0"
    restart: int = 0
    num_cpus: int = 1
    num_gpus: int | None = None
    mem_mb: int | None = None
    job_dir: Path | None = None
    timeout_s: int = DEFAULT_TIMEOUT_S

    @property
    def is_head(self) -> bool:
        """Whether the others come to this node."""
        return self.node == 0

    @property
    def shared_dir(self) -> Path:
        """The job's directory, which all its nodes see.

        Raises:
            ConfigError: it is not known, or not there.
        """
        if self.job_dir is None:
            raise ConfigError(f"{ENV_JOB_DIR} is not set; {self.num_nodes} nodes need a directory that all of them see")
        if not self.job_dir.is_dir():
            raise ConfigError(
                f"{ENV_JOB_DIR}={self.job_dir} is no directory on node {self.node}; all nodes must see it"
            )
        return self.job_dir


def parse_allocation(environ: Mapping[str, str]) -> Allocation:
    """The allocation as the variables of srun(1) tell it; outside Slurm, one node.

    Raises:
        ConfigError: a variable that is no number, or a node number that does not fit.
    """
    num_nodes = _number(environ, "SLURM_NNODES", "SLURM_JOB_NUM_NODES", default=1)
    node = _number(environ, "SLURM_NODEID", default=0)
    if not 0 <= node < num_nodes:
        raise ConfigError(
            f"SLURM_NODEID={node} is not among {num_nodes} nodes; start this with srun, once on each node"
        )
    if _number(environ, "SLURM_NTASKS", default=num_nodes) > num_nodes:
        raise ConfigError(
            f"SLURM_NTASKS={environ['SLURM_NTASKS']} on {num_nodes} nodes: started more than once on a node; "
            "give srun --ntasks-per-node=1"
        )
    num_cpus = _number(environ, "SLURM_CPUS_ON_NODE", default=1)
    per_cpu = _number(environ, "SLURM_MEM_PER_CPU", default=0) * num_cpus
    return Allocation(
        node=node,
        num_nodes=num_nodes,
        job_id=_number(environ, "SLURM_JOB_ID", default=0),
        step=environ.get("SLURM_STEP_ID", "0"),
        restart=_number(environ, "SLURM_RESTART_COUNT", default=0),
        num_cpus=num_cpus,
        num_gpus=_number(environ, "SLURM_GPUS_ON_NODE", default=0) or None,
        mem_mb=_number(environ, "SLURM_MEM_PER_NODE", default=0) or per_cpu or None,
        job_dir=Path(environ[ENV_JOB_DIR]) if environ.get(ENV_JOB_DIR) else None,
        timeout_s=_number(environ, ENV_TIMEOUT, default=DEFAULT_TIMEOUT_S),
    )


def _number(environ: Mapping[str, str], *names: str, default: int) -> int:
    for name in names:
        if text := environ.get(name):
            if not text.isdecimal():
                raise ConfigError(f"{name}={text!r} is no whole number")
            return int(text)
    return default
