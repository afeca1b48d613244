"""Training goes on as ever without W&B: no server, a server that hangs, no key, no client, no network."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from metrics_stage import Stage, wait_for

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.metrics_log import read_metrics
from nemo_runspec.mirror.follower import is_installed
from nemo_runspec.mirror.metrics import read_wandb_run

WITHOUT_CLIENT = "sys.modules['wandb'] = None"
WITHOUT_NETWORK = """
import socket
def refuse(*_args, **_kwargs):
    raise AssertionError("the training opened a socket")
socket.socket = socket.create_connection = refuse
"""
GIVES_UP_SOON = """
import nemo_runspec.metrics_log
from nemo_runspec.mirror.follower import launch
from nemo_runspec.mirror.target import WandbTarget
nemo_runspec.metrics_log.start_follower = lambda path: launch(path, WandbTarget.from_environment(), "--limit", "5")
"""


def test_a_training_neither_waits_for_a_server_that_hangs_nor_imports_its_client(stage: Stage) -> None:
    stage.server.fault(path="/", delay_s=600.0, times=1_000_000)
    said = stage.train(last=200)
    assert stage.followers() != []
    assert said["wandb"] == []
    assert said["slowest_s"] < 0.5
    assert len(read_metrics(stage.metrics)) == 200


def test_a_follower_of_a_server_that_hangs_gives_up(stage: Stage) -> None:
    stage.server.fault(path="/", delay_s=600.0, times=1_000_000)
    stage.train(last=5, head=GIVES_UP_SOON)
    wait_for(lambda: not stage.followers(), timeout_s=60.0)
    assert "gave up 5 s after the end" in stage.metrics.with_name("metrics.jsonl.wandb.log").read_text()
    assert list(stage.scratch.iterdir()) == []


def test_a_server_that_comes_up_late_gets_all_rows(stage: Stage) -> None:
    stage.server.fault(path="/", cut=True, times=1_000_000)
    training = stage.start(last=30, pause_s=0.1)
    wait_for(lambda: stage.metrics.exists() and len(read_metrics(stage.metrics)) > 20)
    stage.server.clear_faults()
    training.communicate()
    stage.wait_until_sent()
    assert stage.steps() == list(range(1, 31))


@pytest.mark.slow
@pytest.mark.parametrize("outage", [{"path": "/", "cut": True}, {"path": "/files/", "status": 503}])
def test_an_outage_longer_than_the_client_s_patience_costs_no_rows(stage: Stage, outage: dict[str, Any]) -> None:
    stage.server.fault(**outage, times=1_000_000)
    training = stage.start(last=100, pause_s=1.0)
    time.sleep(50.0)
    stage.server.clear_faults()
    wait_for(lambda: len(stage.steps()) > 50)
    assert training.poll() is None
    training.communicate()
    stage.wait_until_sent()
    assert stage.steps() == list(range(1, 101))


def test_the_start_of_the_follower_costs_a_training_less_than_50_ms(
    new_stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # no key: then the followers, too, cost little
    stages = [new_stage(name=f"stage-{number}", key="") for number in range(3)]
    assert min(stage.train(last=1)["start_s"] for stage in stages) < 0.05


def test_without_a_key_the_log_says_what_to_do(
    new_stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    stage = new_stage(key="")
    stage.train(last=1)
    stage.wait_until_sent()
    assert "set WANDB_API_KEY" in stage.metrics.with_name("metrics.jsonl.wandb.log").read_text()


def test_the_key_is_in_no_command_line(stage: Stage) -> None:
    training = stage.start(last=1000, pause_s=0.05)
    (follower,) = wait_for(stage.followers)
    assert stage.server.key not in " ".join(follower.cmdline())
    training.kill()


def test_without_the_client_one_line_says_how_to_get_it_and_training_goes_on(stage: Stage) -> None:
    said = stage.train(last=5, head=WITHOUT_CLIENT)
    assert said["stderr"].count("\n") == 1
    assert "pip install 'nemotron-flows[wandb]'" in said["stderr"]
    assert len(read_metrics(stage.metrics)) == 5
    assert stage.followers() == []


@pytest.mark.parametrize("head", [WITHOUT_CLIENT, ""], ids=["no client", "client"])
def test_offline_a_stage_trains_and_publishes_without_network(new_stage: Callable[..., Stage], head: str) -> None:
    stage = new_stage(mode="offline")
    said = stage.train(last=5, head=WITHOUT_NETWORK + head)
    assert (said["wandb"], said["stderr"]) == ([], "")
    assert ArtifactStore(stage.folder / "store").resolve("pretrain-model:latest").version == "v0"
    assert [path.name for path in stage.metrics.parent.iterdir() if "wandb" in path.name] == []


def test_without_a_target_a_stage_trains_and_publishes_without_network(stage: Stage) -> None:
    said = stage.train(last=5, head=WITHOUT_NETWORK + "import os; del os.environ['NEMOTRON_WANDB']")
    assert (said["wandb"], said["stderr"]) == ([], "")
    assert ArtifactStore(stage.folder / "store").resolve("pretrain-model:latest").version == "v0"
    assert read_wandb_run(stage.metrics) is None


def test_a_metrics_directory_that_takes_no_further_file_is_a_warning(stage: Stage) -> None:
    stage.metrics.parent.mkdir(parents=True)
    stage.metrics.with_name("metrics.jsonl.wandb.log").mkdir()
    said = stage.train(last=5)
    assert "metrics are not sent to W&B: " in said["stderr"]
    assert len(read_metrics(stage.metrics)) == 5


def test_a_folder_named_wandb_is_not_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb_but_a_folder").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not is_installed("wandb_but_a_folder")
