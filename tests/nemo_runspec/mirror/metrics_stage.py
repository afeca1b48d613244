"""A stage's trainings in processes of their own, as tests drive and look at them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from pydantic import SecretStr
from wandb_server.server import KEY, WandbServerProcess

from nemo_runspec.mirror.metrics import read_wandb_run, replay_metrics
from nemo_runspec.mirror.process_tree import kill_all
from nemo_runspec.mirror.server import WandbServer
from nemo_runspec.mirror.settings import WandbSettings
from nemo_runspec.mirror.target import ENV_WANDB, WandbTarget

TRAINER = Path(__file__).with_name("metrics_trainer.py")
WAIT_S = 60.0


def wait_for(condition: Callable[[], Any], *, timeout_s: float = WAIT_S) -> Any:
    """What the condition says once it is true."""
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, f"{timeout_s} s went by"
        time.sleep(0.05)
    return found


@dataclass(kw_only=True)
class Stage:
    """A stage of a pipeline run named like its folder, mirrored to a project of that name."""

    folder: Path
    server: WandbServerProcess
    name: str = "pretrain"
    mode: str = "online"
    key: str = KEY
    script: Path = TRAINER
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def metrics(self) -> Path:
        return self.folder / self.name / "metrics.jsonl"

    @property
    def scratch(self) -> Path:
        """Where temporary files of the stage's processes go."""
        return self.folder / "scratch"

    @property
    def target(self) -> WandbTarget:
        project = self.folder.name.replace("_", "-")
        settings = WandbSettings.model_validate(
            {"mode": self.mode, "project": project, "base_url": self.server.url, "entity": self.server.entity}
        )
        target = settings.target(pipeline_run=f"run-{project}", stage=self.name, metrics=str(self.metrics))
        assert target is not None
        return target

    def environment(self) -> dict[str, str]:
        """What a stage hands to its script."""
        return {
            "WANDB_BASE_URL": self.server.url,
            "WANDB_API_KEY": self.key,
            ENV_WANDB: self.target.model_dump_json(),
            "TMPDIR": str(self.scratch),
            "NEMO_RUN_DIR": str(self.metrics.parent),
            "NEMOTRON_METRICS": str(self.metrics),
            "NEMOTRON_STORE": str(self.folder / "store"),
            "NEMOTRON_OUTPUT_NAME": f"{self.name}-model",
            "NEMOTRON_FINGERPRINT": "f0",
        }

    def start(
        self, *, first: int = 1, last: int, total: int | None = None, pause_s: float = 0.0, head: str = ""
    ) -> subprocess.Popen[str]:
        """Start a training that logs these steps of `total`, which is `last` if not given."""
        self.scratch.mkdir(exist_ok=True)
        words = [first, last, total or last, pause_s, head]
        process = subprocess.Popen(
            [sys.executable, str(self.script), *map(str, words)],
            env={**os.environ, **self.environment()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def train(self, **options: Any) -> dict[str, Any]:
        """A training from start to end; what it said, and under `stderr` what it warned of."""
        process = self.start(**options)
        stdout, stderr = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, stderr
        return {**json.loads(stdout), "stderr": stderr}

    def replay(self, *, timeout_s: float = WAIT_S) -> int:
        """Send what the follower left out."""
        server = WandbServer(base_url=self.server.url, api_key=SecretStr(self.key))
        return replay_metrics(self.target, self.metrics, server=server, timeout_s=timeout_s)

    def followers(self) -> list[psutil.Process]:
        """Those that send this stage's metrics now."""
        return [process for process in psutil.process_iter(["cmdline"]) if self._is_follower(process)]

    def _is_follower(self, process: psutil.Process) -> bool:
        words = process.info["cmdline"] or []
        return "nemo_runspec.mirror.follow" in words and str(self.metrics) in words

    def follower(self) -> psutil.Process:
        """The one that sends, once it has opened the W&B run."""
        wait_for(lambda: read_wandb_run(self.metrics))
        (process,) = self.followers()
        return process

    def wait_until_sent(self) -> None:
        """Wait until no process sends any more."""
        wait_for(lambda: not self.followers())

    def run(self) -> dict[str, Any]:
        """The W&B run, as the server has it; empty if it has none."""
        key = f"{self.server.entity}/{self.target.project}/{self.target.run_id}"
        run: dict[str, Any] = self.server.state()["runs"].get(key, {})
        return run

    def steps(self) -> list[int]:
        """The steps that the server has, in its order."""
        return [row["_step"] for row in self.run().get("history", [])]

    def end(self) -> None:
        """Kill what is left of it."""
        for process in self.started:
            kill_all(process.pid, mark=str(self.metrics))
            process.communicate()
