"""Runs `flows/nano3.py` as a user does: a process of its own, in a project directory of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nemotron.flows
from nemo_runspec.metrics_log import read_metrics

FLOW = Path(nemotron.flows.__path__[0]).resolve() / "nano3.py"
# A chain that does little: the first two stages, a few steps, checkpoints often.
SHORT_PRETRAIN = ("--stages", "data_prep_pretrain,pretrain", "pretrain.train.train_iters=12")


@dataclass(kw_only=True)
class Project:
    """A user's directory, and the environment of what runs there."""

    folder: Path
    env: dict[str, str]

    def run(self, *args: str, timeout_s: float = 400) -> subprocess.CompletedProcess[str]:
        """Run the flow to its end."""
        return subprocess.run(
            [sys.executable, str(FLOW), *args],
            cwd=self.folder,
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start the flow in a process group of its own, as a terminal does."""
        return subprocess.Popen(
            [sys.executable, str(FLOW), *args],
            cwd=self.folder,
            env={**os.environ, **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def work_dir(self, stage: str) -> Path:
        """The stage's only work directory."""
        (found,) = (self.folder / ".nemotron" / "work").glob(f"{stage}-*")
        return found

    def steps(self, stage: str) -> list[float]:
        """Steps in the order in which they were logged, a repeated one each time."""
        paths = list((self.folder / ".nemotron" / "work").glob(f"{stage}-*/metrics.jsonl"))
        return [row["step"] for path in paths for row in read_metrics(path)]

    def wait_for_step(self, stage: str, step: int, *, timeout_s: float = 180) -> None:
        """Return when the stage has logged the step."""
        wait_until(lambda: step in self.steps(stage), timeout_s=timeout_s)

    def processes(self) -> dict[int, str]:
        """Process ids and command lines of what runs for this project's stages."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                environ = (path / "environ").read_bytes().decode(errors="replace")
                line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"NEMOTRON_STORE={self.folder}" in environ and line:
                found[int(path.name)] = line.strip()
        return found

    def script_process(self) -> int:
        """Process id of the stage's script that runs now."""
        (pid,) = [pid for pid, line in self.processes().items() if line.endswith("train.yaml")]
        return pid


def wait_until(ready: Callable[[], bool], *, timeout_s: float) -> None:
    """Poll until `ready`; fail the test after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < deadline, f"not ready after {timeout_s} s"
        time.sleep(0.1)


def interrupt(process: subprocess.Popen[str], signum: signal.Signals) -> None:
    """Send the signal to the whole group, as Ctrl-C in a terminal does."""
    os.killpg(process.pid, signum)
