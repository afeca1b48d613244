"""The pretraining script as processes of its own: two of them agree with one, and a killed run goes on exactly."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from omegaconf import OmegaConf
from tiny_model import MODEL

import nemo_runspec
from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.execution import build_local_command
from nemo_runspec.metrics_log import read_metrics, saved_step
from nemotron.recipes.nano3.stage0_pretrain import data_prep, train
from nemotron.recipes.nano3.tokenizer import MIN_VOCAB_SIZE

SCRIPT = Path(train.__file__).resolve()
SAVE_INTERVAL = 3
DATA_PREP: dict[str, Any] = {
    "document_chars": 80,
    "valid_fraction": 0.1,
    "vocab_size": MIN_VOCAB_SIZE + 20,
    "tokenizer_path": None,
    "seed": 1,
}
PRETRAIN: dict[str, Any] = {
    "run": {"data": "pretrain-data:latest"},
    "backend": "megatron-core",
    "data_dir": "${art:data}",
    "model": MODEL,
    "train": {"train_iters": 40, "global_batch_size": 4, "micro_batch_size": 2, "eval_iters": 1},
    "optimizer": {"lr": 2e-3, "warmup_iters": 2, "decay_iters": 4},
    "checkpoint": {"save_interval": SAVE_INTERVAL},
    "output_dir": "${oc.env:NEMO_RUN_DIR}",
}


@dataclass(frozen=True, kw_only=True)
class Project:
    """A store with pretraining data, and runs on them in folders of their own."""

    root: Path

    def environment(self, run: str, *, output: str, attempt: str = "") -> dict[str, str]:
        """What `nemotron.tasks.stage.script_environment` gives a script."""
        return {
            "NEMO_RUN_DIR": str(self.root / run),
            "NEMOTRON_STORE": str(self.root / "store"),
            "NEMOTRON_RUN_ID": run,
            "NEMOTRON_STAGE": "pretrain",
            "NEMOTRON_FINGERPRINT": run,
            "NEMOTRON_METRICS": str(self.metrics_path(run + attempt)),
            "NEMOTRON_OUTPUT_NAME": output,
            "NEMOTRON_STOP_FILE": str(self.root / run / "stop"),
        }

    def metrics_path(self, run: str) -> Path:
        return self.root / f"{run}.jsonl"

    def save_config(self, run: str, config: dict[str, Any]) -> Path:
        path = self.root / f"{run}.yaml"
        OmegaConf.save(OmegaConf.create(config), path)
        return path

    def prepare(self) -> None:
        """Make the data set out of sentences about numbers, in this process."""
        text = self.root / "text.txt"
        text.write_text("\n\n".join(f"{n} and {n * n} met {n % 7} cats on the {n % 13}th mat." for n in range(200)))
        config = {**DATA_PREP, "sources": [{"name": "cats", "path": str(text)}], "output_dir": str(self.root / "data")}
        with pytest.MonkeyPatch.context() as patch:
            self._set(patch, self.environment("data", output="pretrain-data"))
            data_prep.main(self.save_config("data", config))

    def pretrain(self, run: str, *, attempt: str = "") -> None:
        """Train in this process alone."""
        with pytest.MonkeyPatch.context() as patch:
            self._set(patch, self.environment(run, output="model", attempt=attempt))
            train.main(self.save_config(run, PRETRAIN))

    def start_two(self, run: str) -> psutil.Popen:
        """Start two processes of the script by the command that a stage would use."""
        command = build_local_command(nemo_runspec.parse(SCRIPT), self.save_config(run, PRETRAIN), nproc=2)
        environment = {**os.environ, **self.environment(run, output="model"), "OMP_NUM_THREADS": "1"}
        with (self.root / f"{run}.log").open("wb") as log:
            return psutil.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def curve(self, run: str) -> list[tuple[float, float, float]]:
        """Step, loss and gradient norm."""
        rows = read_metrics(self.metrics_path(run))
        return [(row["step"], row["loss"], row["grad_norm"]) for row in rows]

    def wait_for_step(self, run: str, step: int, process: psutil.Popen) -> None:
        """Return when the run has logged the step."""
        while len(self.curve(run)) < step:
            assert process.poll() is None, (self.root / f"{run}.log").read_text()
            time.sleep(0.01)

    @staticmethod
    def _set(patch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
        for name, value in environment.items():
            patch.setenv(name, value)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """With a run called `alone` by one process."""
    made = Project(root=tmp_path_factory.mktemp("project"))
    made.prepare()
    made.pretrain("alone")
    return made


def kill_all(process: psutil.Popen) -> None:
    """SIGKILL to torchrun and to its workers, which are not in its process group."""
    family = [process, *process.children(recursive=True)]
    for member in family:
        with suppress(psutil.NoSuchProcess):  # a worker ends with torchrun
            member.send_signal(signal.SIGKILL)
    psutil.wait_procs(family)


def test_two_processes_learn_the_same_as_one_and_publish_one_model(project: Project) -> None:
    process = project.start_two("together")
    assert process.wait(timeout=180) == 0, (project.root / "together.log").read_text()
    assert sum(project.curve("together"), ()) == pytest.approx(sum(project.curve("alone"), ()), abs=1e-4)
    alone, together = ArtifactStore(project.root / "store").versions("model")
    assert together.metadata["valid_loss"] == pytest.approx(alone.metadata["valid_loss"], abs=1e-4)


def test_one_process_goes_on_exactly_from_where_two_were_killed(project: Project) -> None:
    process = project.start_two("killed")
    project.wait_for_step("killed", SAVE_INTERVAL + 2, process)
    kill_all(process)
    project.pretrain("killed", attempt="-resumed")
    resumed = project.curve("killed-resumed")
    done = int(resumed[0][0]) - 1
    assert done >= SAVE_INTERVAL
    assert done % SAVE_INTERVAL == 0
    assert sum(resumed[:5], ()) == pytest.approx(sum(project.curve("alone")[done : done + 5], ()), abs=1e-5)


def test_two_processes_stop_on_request_at_the_same_step_and_one_goes_on_exactly(project: Project) -> None:
    stop = project.root / "stopped" / "stop"
    stop.parent.mkdir()
    stop.touch()
    process = project.start_two("stopped")
    process.wait(timeout=180)
    log = (project.root / "stopped.log").read_text()
    assert "stopped on request after step 1; start again to go on\n" in log
    assert "exitcode: 75" in log
    assert saved_step(project.metrics_path("stopped")) == len(project.curve("stopped")) == 1
    stop.unlink()
    project.pretrain("stopped", attempt="-resumed")
    resumed = project.curve("stopped-resumed")
    assert sum(resumed[:5], ()) == pytest.approx(sum(project.curve("alone")[1:6], ()), abs=1e-5)


def test_a_run_that_ended_before_it_published_evaluates_and_publishes(project: Project) -> None:
    shutil.copytree(project.root / "alone" / "checkpoints", project.root / "ended" / "checkpoints")
    project.pretrain("ended")
    assert project.curve("ended") == []
    first, *_, last = ArtifactStore(project.root / "store").versions("model")
    assert last.metadata["valid_loss"] == first.metadata["valid_loss"]
