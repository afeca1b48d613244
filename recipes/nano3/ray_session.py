"""A Ray session for the block: the cluster that `$RAY_ADDRESS` names, else one of this script's own on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from nemo_runspec.errors import RequirementError

OBJECT_STORE_BYTES = 256 * 2**20
# A dead worker is started again; its task depends on its arguments alone, so running it twice does no harm.
STATELESS_WORKER = {"num_cpus": 1, "max_restarts": 3, "max_task_retries": 3, "scheduling_strategy": "SPREAD"}
# The trainer's state is in its checkpoints: if it dies the script fails, and goes on from there when started again.
STATEFUL_WORKER = {"num_cpus": 1, "max_restarts": 0}


@contextmanager
def ray_session(*, num_cpus: int) -> Iterator[ModuleType]:
    """Yield the `ray` module, connected; shut down at the end.

    Raises:
        RequirementError: Ray is not installed, or the cluster has fewer CPUs, where actors would wait for ever.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise RequirementError("RL needs Ray: pip install 'nemotron-flows[ray]'") from error
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
        _check_size(ray, num_cpus=num_cpus)
    else:
        ray.init(
            num_cpus=num_cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=OBJECT_STORE_BYTES,
        )
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_size(ray: ModuleType, *, num_cpus: int) -> None:
    found = int(ray.cluster_resources().get("CPU", 0))
    if found < num_cpus:
        ray.shutdown()
        raise RequirementError(
            f"Ray at {os.environ['RAY_ADDRESS']} has {found} CPUs, {num_cpus} are needed, one for each actor; "
            "take more nodes or CPUs, or set a smaller train.num_rollout_workers"
        )
