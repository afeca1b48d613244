"""The specs that the tests render, all in one call of NeMo-Run, and those that they also run."""

import sys
from typing import Any

from nemo_runspec.slurm.spec import JOB_DIR, JobSpec

SUBMITTERS = ("submitit", "nemo-run")
LAUNCHERS = ("direct", "torchrun", "ray")
NASTY = (
    "a b",
    "it's",
    '"q"',
    "$(touch /tmp/nemotron-was-here)",
    "`id`",
    "first\n#SBATCH --nodes=7\nlast",
    "/nemo_run/code",
    "$$ ${head_node_ip_var} ${local_rank} $HOME",
    "",
    "\\n \\",
    "tab\tcr\rü€\u2028.",
    "*",
    "!x",
    "nemotron0word",
    "%j",
    "--",
    "--wait=1",
)


def golden_spec(launcher: Any, **fields: Any) -> JobSpec:
    command = ("/venv/bin/python", f"{JOB_DIR}/code/train.py", "--config", f"{JOB_DIR}/train.yaml")
    return JobSpec(stage="train", launcher=launcher, command=command, **fields)


def run_spec(launcher: Any, **fields: Any) -> JobSpec:
    command = (sys.executable, f"{JOB_DIR}/code/record_start.py", *NASTY)
    return JobSpec(
        **{"stage": "s", "launcher": launcher, "command": command, "time_limit": "00:05:00", "mem": "3G", **fields}
    )


_IMAGE: dict[str, Any] = {
    "nodes": 4,
    "nproc_per_node": 8,
    "gpus_per_node": 8,
    "container_image": "nvcr.io#nvidia/nemo:25.11",
    "mounts": ("/lustre/data:/data:ro", "/home/me/my models:/models"),
    "account": "llm",
    "exclusive": True,
}

GOLDEN = {
    "direct": golden_spec(
        "direct",
        nodes=2,
        ntasks_per_node=3,
        cpus_per_task=4,
        mem="64G",
        time_limit="04:00:00",
        account="llm",
        partition="batch",
        qos="high",
        constraint="a100|h100",
        reservation="r 1",
        nodelist="node[1-2]",
        exclude="node3",
        sbatch={"gres": "gpu:2", "contiguous": True, "reboot": False, "nice": 10},
        setup_lines=("module load cuda", "export GREETING='a b'"),
    ),
    "direct-image": golden_spec("direct", **_IMAGE),
    "torchrun": golden_spec("torchrun", nodes=2, nproc_per_node=2, ntasks_per_node=5, setup_lines=("ulimit -n 65536",)),
    "torchrun-image": golden_spec("torchrun", **_IMAGE),
    "torchrun-startup": golden_spec("torchrun", nproc_per_node=2, startup_commands=("pip install 'x y'", "cd /src")),
    "ray": golden_spec("ray", nodes=2, gpus_per_node=2),
    "ray-image": golden_spec("ray", **_IMAGE),
}

STARTS = {
    "direct": run_spec("direct", nodes=2, ntasks_per_node=2, cpus_per_task=2),
    "torchrun": run_spec("torchrun", nodes=2, nproc_per_node=2),
    "ray": run_spec("ray", nodes=2),
    "startup": run_spec("torchrun", nodes=2, nproc_per_node=2, startup_commands=("export GREETING='a b'",)),
}
EXIT_CODE = run_spec("direct", command=(sys.executable, "-c", "raise SystemExit(3)"))
SETUP = run_spec("direct", setup_lines=("false", "export GREETING='from /nemo_run'"))
OPTIONS = run_spec("direct", sbatch={"mail-user": 'it\'s "q" #1 b$x', "mail-type": "FAIL", "gres": "gpu:1"})

ALL = (*GOLDEN.values(), *STARTS.values(), EXIT_CODE, SETUP, OPTIONS)
