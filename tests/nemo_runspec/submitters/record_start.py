"""Leaves a file for each process that started: its arguments, where it ran, and what all processes add up to."""

import json
import os
import sys
from pathlib import Path


def main() -> None:
    place = [os.environ.get(name, "0") for name in ("SLURM_NODEID", "SLURM_PROCID", "LOCAL_RANK")]
    record = {"argv": sys.argv[1:], "cwd": str(Path.cwd()), "greeting": os.environ.get("GREETING")}
    if os.environ.get("WORLD_SIZE", "1") != "1":
        record["sum"] = sum_of_ranks()
    with (Path(__file__).parent.parent / f"start-{'-'.join(place)}.json").open("x") as file:
        json.dump(record, file)
    sys.stdout.write(f"started {'-'.join(place)}\n")


def sum_of_ranks() -> float:
    import torch
    import torch.distributed

    torch.distributed.init_process_group("gloo")
    total = torch.tensor(float(torch.distributed.get_rank()))
    torch.distributed.all_reduce(total)
    torch.distributed.destroy_process_group()
    return total.item()


if __name__ == "__main__":
    main()
