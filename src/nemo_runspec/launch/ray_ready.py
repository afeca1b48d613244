"""`python -m nemo_runspec.launch.ray_ready NUM_NODES`: wait until `$RAY_ADDRESS` has so many nodes."""

from __future__ import annotations

import sys
import time

POLL_S = 0.2


def main(num_nodes: int) -> None:
    """Return when they are there; whoever started this has the deadline."""
    import ray

    ray.init(log_to_driver=False, logging_level="ERROR")
    while sum(node["Alive"] for node in ray.nodes()) < num_nodes:
        time.sleep(POLL_S)
    ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
