"""A user's own project with a recipe of one small script, and the `nemotron` command in it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = """\
# /// script
# [tool.runspec]
# name = "hello/train"
# docs = "Say hello, or what you like. More of it is not here."
# [tool.runspec.run]
# launch = "direct"
# [tool.runspec.resources]
# gpus_per_node = 0
# [tool.runspec.artifacts]
# output = { name = "hello-model", type = "ModelArtifact" }
# ///
import argparse
import os
import sys
import time
from pathlib import Path

from nemo_runspec.artifacts import ModelArtifact, log_artifact, setup_artifact_tracking
from nemo_runspec.script import load_train_config

parser = argparse.ArgumentParser()
parser.add_argument("--config")
parser.add_argument("--shout", action="store_true")
args = parser.parse_args()
config = load_train_config(args.config)
tracking = setup_artifact_tracking(config)
for second in range(config["seconds"]):
    print(f"{config['word']}{'!' if args.shout else ''} {second}", flush=True)
    time.sleep(1)
if config["code"]:
    sys.exit(config["code"])
out = Path(os.environ["NEMO_RUN_DIR"]) / "model"
out.mkdir(parents=True, exist_ok=True)
(out / "word").write_text(config["word"])
log_artifact(ModelArtifact(path=out, step=1), tracking)
"""
CONFIG = "# As it comes.\nword: hello\nseconds: 0\ncode: 0\napi_key: null\n"
LOUD = "# Twice as loud.\ndefaults: default\nword: HELLO\n"


@dataclass(kw_only=True)
class HelloProject:
    """The project; `env` goes to the command over this process's environment."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    @classmethod
    def create(cls, folder: Path, *, env_toml: str = "", **env: str) -> "HelloProject":
        """Write the recipe and env.toml."""
        recipe = folder / "recipes" / "hello"
        (recipe / "config").mkdir(parents=True)
        (recipe / "train.py").write_text(SCRIPT)
        (recipe / "config" / "default.yaml").write_text(CONFIG)
        (recipe / "config" / "loud.yaml").write_text(LOUD)
        (folder / "env.toml").write_text(env_toml)
        home = folder.parent / f"{folder.name}-home"
        home.mkdir(exist_ok=True)
        return cls(folder=folder, env={"HOME": str(home), **env})

    @property
    def home(self) -> Path:
        return self.folder / ".nemotron"

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "nemotron.cli", *args]

    def environment(self) -> dict[str, str]:
        unwanted = ("PREFECT_", "NEMOTRON_", "COLUMNS")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        return {**inherited, "OMP_NUM_THREADS": "1", **self.env}

    def run(self, *args: str, cwd: Path | None = None, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
        """Run `nemotron ARGS` to its end."""
        return subprocess.run(
            self.command(*args),
            cwd=cwd or self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start `nemotron ARGS`."""
        return subprocess.Popen(
            self.command(*args),
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def files(self) -> list[str]:
        """Everything in the project directory."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))

    def newest_run(self) -> str:
        return max((self.home / "runs").glob("*.json"), key=lambda path: path.stat().st_mtime).stem


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 60) -> None:
    """Return once it holds, fail after the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.1)
