"""A process that does one attempt as `run_slurm` does, and may be killed on the way; also starts such processes.

    python orchestrator.py WORK_DIR RUN_ID [--die POINT] [--no-lock] [--at SECONDS] [--poll SECONDS]

It opens the attempt, writes its files, submits it once, watches it and prints its ending. At the point named it sends
SIGKILL to itself; within sbatch the wrapper that `write_sbatch_wrapper` makes does so. Only functions that this file
imported, and the client, are wrapped; what they call is the product's. `--no-lock`: two hosts whose shared file
system knows no flock. `--at`: go on at that time, in seconds since the epoch, so that two processes meet.
"""

import argparse
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import bare_job
from cluster.cluster import SYSTEM_PATH, Cluster

from nemo_runspec.slurm import submit
from nemo_runspec.slurm.client import SlurmClient
from nemo_runspec.slurm.hosts import Completed, Host, LocalHost
from nemo_runspec.slurm.ledger import Attempt
from nemo_runspec.slurm.monitor import Monitor

TESTS = Path(__file__).resolve().parents[2]
POINTS = (
    "before-intent",
    "after-intent",
    "before-sbatch",
    "in-sbatch-before-its-request",
    "in-sbatch-after-its-request",
    "before-record",
    "after-record",
)
LIMIT_S = 240.0
WORK = 'echo "$SLURM_JOB_ID" >> ../../work.txt; sleep 0.5'


@dataclass(frozen=True, kw_only=True)
class DyingHost:
    """This machine, but the process dies right before or right after its first sbatch."""

    host: Host
    point: str

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: str = "") -> Completed:
        if argv[0] == "sbatch" and self.point == "before-sbatch":
            die()
        done = self.host.run(argv, timeout_s=timeout_s, stdin=stdin)
        if argv[0] == "sbatch" and self.point == "before-record":
            die()
        return done

    def read(self, path: Path, *, begin: int = 0) -> bytes | None:
        return self.host.read(path, begin=begin)

    def write(self, path: Path, content: str, *, mode: int) -> None:
        self.host.write(path, content, mode=mode)


@dataclass(frozen=True, kw_only=True)
class Round:
    """What came of one attempt: the job ids of its lines of work, and all jobs of its name."""

    endings: tuple[str, ...]
    work: tuple[str, ...]
    jobs: tuple[str, ...]

    @property
    def is_lost(self) -> bool:
        """Whether the work was not done, or somebody who followed it to its end did not see that it was."""
        return not self.work or set(self.endings) != {"COMPLETED"}

    @property
    def is_doubled(self) -> bool:
        """Whether the work was done more than once."""
        return len(self.work) > 1


def die() -> NoReturn:
    """End as kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def start(
    cluster: Cluster, work_dir: Path, run_id: str, *options: str, path: Path | None = None, **env: str
) -> subprocess.Popen[str]:
    """Start an orchestrator; with `path`, programs there go first."""
    slurm_env = {**os.environ, **cluster.env, **env, "PYTHONPATH": str(TESTS)}
    slurm_env["PATH"] = f"{path}:{cluster.env['PATH']}" if path else cluster.env["PATH"]
    with (work_dir.parent / f"{work_dir.name}-{run_id}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, __file__, str(work_dir), run_id, *options],
            env=slurm_env,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def outcome(cluster: Cluster, work_dir: Path, endings: Sequence[str]) -> Round:
    """The round's outcome, once no job of it is left in the queue."""
    name = f"-{work_dir.name}-"
    deadline = time.monotonic() + LIMIT_S
    while any(line.split()[1] in ("PENDING", "RUNNING", "COMPLETING") for line in cluster.jobs(name=name)):
        assert time.monotonic() < deadline, f"jobs of {work_dir} do not end"
        time.sleep(0.5)
    work = work_dir / "work.txt"
    return Round(
        endings=tuple(endings),
        work=tuple(work.read_text().split()) if work.exists() else (),
        jobs=tuple(line.split()[0] for line in cluster.jobs(name=name)),
    )


def write_sbatch_wrapper(folder: Path) -> Path:
    """A directory with an sbatch that may kill its parent, wait and submit; variables say what.

    KILL_PARENT: `before` or `after` it submits, or empty; DELAY_S: seconds that it waits before it submits; ENDED: a
    file that it makes at its end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    real = shutil.which("sbatch", path=SYSTEM_PATH)
    wrapper = folder / "sbatch"
    wrapper.write_text(
        "#!/bin/sh\n"
        '[ "$KILL_PARENT" = before ] && kill -9 $PPID\n'
        'sleep "$DELAY_S"\n'
        f'{real} "$@"\ncode=$?\n'
        '[ "$KILL_PARENT" = after ] && kill -9 $PPID\n'
        'touch "$ENDED"\nexit $code\n'
    )
    wrapper.chmod(0o755)
    return folder


def follow(args: argparse.Namespace) -> str:
    """Do the attempt; its ending."""
    point: str = args.die
    if point == "before-intent":
        die()
    open_attempt = bare_job.open_attempt

    def open_and_die(*positional: Path, **named: object) -> Attempt:
        attempt = open_attempt(*positional, **named)  # type: ignore[arg-type]  # handed on as it came
        if point == "after-intent":
            die()
        return attempt

    bare_job.open_attempt = open_and_die
    if args.no_lock:
        submit.locked = lambda _: contextlib.nullcontext(0)  # type: ignore[assignment]  # no flock there
    job = bare_job.prepare(args.work_dir, WORK, run_id=args.run_id)
    client = SlurmClient(host=DyingHost(host=LocalHost(), point=point))
    job_id = submit.submit_once(job.attempt, client, job.options)
    if point == "after-record":
        die()
    monitor = Monitor(client=client, poll_s=args.poll)
    watched = monitor.watch(job.attempt, job_id, num_gpus=0)
    return str(bare_job.wait(monitor, watched, timeout_s=LIMIT_S).ending)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work_dir", type=Path)
    parser.add_argument("run_id")
    parser.add_argument("--die", choices=POINTS, default="")
    parser.add_argument("--no-lock", action="store_true")
    parser.add_argument("--at", type=float, default=0.0)
    parser.add_argument("--poll", type=float, default=1.0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    time.sleep(max(0.0, args.at - time.time()))
    sys.stdout.write(f"{follow(args)}\n")


if __name__ == "__main__":
    main()
