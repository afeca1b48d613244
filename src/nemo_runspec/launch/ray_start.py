"""The command that starts Ray on a node, its environment and how much it gets. Starts nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from nemo_runspec.launch.allocation import Allocation

# Ray's CPUs are places for actors, not cores: RL has a trainer and some rollout workers, which take turns.
MIN_CPUS = 4
SMALL_MEMORY_MB = 64 * 1024
MIN_OBJECT_STORE_BYTES = 128 * 2**20  # Ray refuses less than 75 MiB
MAX_OBJECT_STORE_BYTES = 200 * 10**9  # Ray's own limit for what it chooses itself


def build_head_command(
    allocation: Allocation, python: str, ip: str, *, port: int, client_port: int, temp_dir: Path
) -> list[str]:
    """`ray start` of the head."""
    # Where ray[client] is installed it listens on 10001, which two jobs on one node cannot both have.
    client = [] if find_spec("grpc") is None else [f"--ray-client-server-port={client_port}"]
    options = ["--head", f"--port={port}", *client, "--include-dashboard=false", f"--node-ip-address={ip}"]
    return [*_start(python, temp_dir), *options, *_resources(allocation)]


def build_node_command(allocation: Allocation, python: str, ip: str, *, address: str, temp_dir: Path) -> list[str]:
    """`ray start` of another node; `address` is the head's."""
    return [*_start(python, temp_dir), f"--address={address}", f"--node-ip-address={ip}", *_resources(allocation)]


def ray_environment(environ: Mapping[str, str], *, token: str, temp_dir: Path) -> dict[str, str]:
    """What all Ray processes of the job have in common, the driver too.

    The token is named outright: Ray turns authentication on by itself for those who happen to have ~/.ray/auth_token.
    """
    kept = {name: value for name, value in environ.items() if name not in ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH")}
    ours = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_TMPDIR": str(temp_dir),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }
    return {**kept, **ours}


def object_store_bytes(memory_mb: int) -> int:
    """Ray's own share of the memory, 30 %, or less where it is small; it fills as it is used."""
    share = 0.1 if memory_mb < SMALL_MEMORY_MB else 0.3
    return min(max(int(memory_mb * 2**20 * share), MIN_OBJECT_STORE_BYTES), MAX_OBJECT_STORE_BYTES)


def _start(python: str, temp_dir: Path) -> list[str]:
    # 0 is a free one; Ray's own choices are the same for each node and job on a machine.
    ports = ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]
    return [
        python,
        "-c",
        "from ray.scripts.scripts import main; main()",
        "start",
        "--block",
        *ports,
        f"--temp-dir={temp_dir}",
    ]


def _resources(allocation: Allocation) -> list[str]:
    physical_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    memory_mb = min(allocation.mem_mb or physical_mb, physical_mb)
    gpus = [] if allocation.num_gpus is None else [f"--num-gpus={allocation.num_gpus}"]
    cpus = max(allocation.num_cpus, MIN_CPUS)
    return [f"--num-cpus={cpus}", *gpus, f"--object-store-memory={object_store_bytes(memory_mb)}"]
