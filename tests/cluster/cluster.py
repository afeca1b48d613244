"""A real Slurm cluster on this machine, for tests: start it, hurt it, count what is asked of it."""

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmdbd", "mariadbd", "sbatch")
NUM_CLUSTERS = 200
SYSTEM_PATH = f"{os.environ['PATH']}:/usr/sbin"


def require_programs() -> None:
    """Skip where nobody can start a cluster, fail where `./test` should have installed it."""
    if os.getuid() != 0:
        pytest.skip("a Slurm cluster of one's own needs root")
    missing = [name for name in PROGRAMS if shutil.which(name, path=SYSTEM_PATH) is None]
    assert not missing, f"Slurm tests need {', '.join(missing)}: run ./test as root on Debian, see CONTRIBUTING.md"


@contextmanager
def base_port() -> Iterator[int]:
    """The first of 40 ports that no other cluster on this machine takes during the block."""
    for offset in range(NUM_CLUSTERS):
        slot = (os.getpid() + offset) % NUM_CLUSTERS
        with open(Path(tempfile.gettempdir(), f"slurm-ports-{slot}.lock"), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield 16800 + 40 * slot
            return
    raise AssertionError(f"{NUM_CLUSTERS} clusters run on this machine")


@dataclass(kw_only=True)
class Cluster:
    """A running cluster; `env` is what Slurm's programs need to find it."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def running(cls, folder: Path, **settings: str) -> Iterator["Cluster"]:
        """The cluster for the block; settings as slurm_up.sh explains them."""
        folder.chmod(0o755)
        with base_port() as port:
            cluster = cls(folder=folder, settings={"SLURM_BASE_PORT": str(port), **settings})
            cluster.up()
            try:
                yield cluster
            finally:
                subprocess.run([HERE / "slurm_down.sh", folder, "--purge"], check=True, capture_output=True)

    @property
    def env(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "etc" / "slurm.conf"), "PATH": SYSTEM_PATH}

    def up(self) -> None:
        """Start what is not running; return when all nodes are idle."""
        done = subprocess.run(
            [HERE / "slurm_up.sh", self.folder],
            env={**os.environ, **self.settings},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def ask(self, *command: str) -> str:
        """What one of Slurm's programs prints."""
        num_tries = 3 if command[0] in ("squeue", "sacct") else 1  # a busy slurmctld says that it timed out
        for left in reversed(range(num_tries)):
            done = subprocess.run(
                command, env={**os.environ, **self.env}, capture_output=True, text=True, check=not left, timeout=60
            )
            if done.returncode == 0:
                break
        return done.stdout.strip()

    def jobs(self, *, name: str = "") -> list[str]:
        """`ID STATE NAME` of the jobs in the queue, ended ones too as long as slurmctld remembers them."""
        lines = self.ask("squeue", "-h", "-t", "all", "-o", "%A %T %j").splitlines()
        return [line for line in lines if name in line]

    def cancel_all(self) -> None:
        """End all jobs, and wait for that."""
        ids = self.ask("squeue", "-h", "-o", "%A").split()
        if ids:
            self.ask("scancel", *ids)
        deadline = time.monotonic() + 30
        while self.ask("squeue", "-h", "-o", "%A"):
            assert time.monotonic() < deadline, "jobs do not end"
            time.sleep(0.2)

    def pid(self, daemon: str) -> int:
        """The process of slurmctld, slurmdbd or slurmd-nodeN."""
        return int((self.folder / "run" / f"{daemon}.pid").read_text())

    def kill(self, daemon: str, signum: signal.Signals = signal.SIGKILL) -> None:
        """Send the signal to a daemon and, if it ends it, wait for that."""
        pid = self.pid(daemon)
        os.kill(pid, signum)
        if signum in (signal.SIGKILL, signal.SIGTERM):
            deadline = time.monotonic() + 20
            while Path(f"/proc/{pid}/exe").exists():
                assert time.monotonic() < deadline, f"{daemon} does not end"
                time.sleep(0.05)

    def wrappers(self, folder: Path, names: Sequence[str] = ("sbatch", "squeue", "sacct", "scancel")) -> "CommandCount":
        """Programs of these names, to put first on PATH, that count their calls and do the same."""
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "calls"
        for name in names:
            real = shutil.which(name, path=SYSTEM_PATH)
            wrapper = folder / name
            wrapper.write_text(f'#!/bin/sh\necho "$(date +%s.%N) {name}" >> {log}\nexec {real} "$@"\n')
            wrapper.chmod(0o755)
        return CommandCount(folder=folder, log=log)


@dataclass(frozen=True, kw_only=True)
class CommandCount:
    """Calls of Slurm's programs; put `folder` first on PATH."""

    folder: Path
    log: Path

    def calls(self) -> list[tuple[float, str]]:
        """Time, in seconds since the epoch, and program of each call."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(float(line.split()[0]), line.split()[1]) for line in lines]
