"""The launcher on "nodes" that are processes with the variables which srun would set; torchrun and Ray are real."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nemo_runspec.launch.children import descendants

TORCH_SCRIPT = """
import os, sys
import torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.ones(1)
dist.all_reduce(total)
with open(sys.argv[1] + "/rank-" + os.environ["RANK"], "w") as file:
    file.write(str(int(total)))
dist.barrier()
dist.destroy_process_group()
sys.exit(75)
"""
RAY_SCRIPT = """
import os, sys, time
import ray
ray.init(log_to_driver=False, logging_level="ERROR")

@ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
class Actor:
    def node(self):
        return os.environ["SLURM_NODEID"]

actors = [Actor.remote() for _ in range(4)]
nodes = sorted(set(ray.get([actor.node.remote() for actor in actors])))
with open(sys.argv[1] + "/nodes", "w") as file:
    file.write(" ".join(nodes))
time.sleep(float(sys.argv[2]))
sys.exit(5)
"""


@dataclass
class Job:
    """Launchers started by hand, their output in a file each."""

    folder: Path
    job_id: int
    launchers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, launcher: str, script: str, *args: str, num_nodes: int = 2) -> None:
        (self.folder / "script.py").write_text(script)
        for node in range(num_nodes):
            env = {
                **os.environ,
                "SLURM_JOB_ID": str(self.job_id),
                "SLURM_NNODES": str(num_nodes),
                "SLURM_NODEID": str(node),
                "SLURM_CPUS_ON_NODE": "2",
                "SLURM_MEM_PER_NODE": "1500",
                "NEMOTRON_JOB_DIR": str(self.folder),
                "NEMOTRON_RENDEZVOUS_TIMEOUT_S": "180",
            }
            command = [sys.executable, "-m", "nemo_runspec.launch", launcher, "--", sys.executable]
            words = [*command, str(self.folder / "script.py"), str(self.folder), *args]
            with (self.folder / f"out-{node}").open("wb") as out:
                self.launchers.append(subprocess.Popen(words, env=env, stdout=out, stderr=subprocess.STDOUT))

    def codes(self) -> list[int]:
        """The exit codes, node by node."""
        return [launcher.wait(timeout=180) for launcher in self.launchers]

    def output(self, node: int) -> str:
        return (self.folder / f"out-{node}").read_text()

    def wait_for(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 180
        while not ready():
            assert time.monotonic() < deadline, self.output(0)
            time.sleep(0.05)

    def below(self) -> list[int]:
        return [pid for launcher in self.launchers for pid in descendants(launcher.pid)]

    def temp_dirs(self) -> list[Path]:
        return list(Path("/tmp").glob(f"ray-{self.job_id}-*"))


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    made = Job(folder=tmp_path, job_id=10**8 + os.getpid())
    yield made
    for launcher in made.launchers:
        launcher.kill()
        launcher.wait()
    for left in made.temp_dirs():  # by a launcher that was killed
        shutil.rmtree(left)


def is_running(pid: int) -> bool:
    """Whether the process lives; one that is dead but not reaped has no exe."""
    return Path(f"/proc/{pid}/exe").exists()


def test_torchrun_joins_the_nodes_and_ends_with_the_scripts_own_code(job: Job) -> None:
    job.start("torchrun", TORCH_SCRIPT)
    assert job.codes() == [75, 75], job.output(0) + job.output(1)
    assert [(job.folder / f"rank-{rank}").read_text() for rank in (0, 1)] == ["2", "2"]


def test_ray_spans_the_nodes_and_ends_with_the_drivers_code_and_nothing_left(job: Job) -> None:
    job.start("ray", RAY_SCRIPT, "3")
    job.wait_for((job.folder / "nodes").exists)
    processes = job.below()
    assert job.codes() == [5, 0], job.output(0) + job.output(1)
    assert (job.folder / "nodes").read_text() == "0 1"
    assert len(processes) > 10
    assert not [pid for pid in processes if is_running(pid)]
    assert job.temp_dirs() == []
    assert not (job.folder / "rendezvous-0.json").exists()


def test_a_lost_node_ends_the_ray_job_with_an_error_and_nothing_left_on_the_others(job: Job) -> None:
    job.start("ray", RAY_SCRIPT, "600")
    job.wait_for((job.folder / "nodes").exists)
    processes = job.below()
    job.launchers[1].send_signal(signal.SIGKILL)
    assert job.codes() == [69, -9], job.output(0)
    assert "error: node 1 was lost: its launcher is gone\n" in job.output(0)
    job.wait_for(lambda: not [pid for pid in processes if is_running(pid)])


def test_sigterm_ends_a_ray_job_of_one_node(job: Job) -> None:
    job.start("ray", RAY_SCRIPT, "600", num_nodes=1)
    job.wait_for((job.folder / "nodes").exists)
    processes = job.below()
    job.launchers[0].terminate()
    assert job.codes() == [143]
    assert not [pid for pid in processes if is_running(pid)]
