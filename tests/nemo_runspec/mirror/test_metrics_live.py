"""Metrics reach the W&B run while a stage trains, whatever becomes of the training, the follower and W&B's client."""

import random
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from metrics_stage import TRAINER, Stage, wait_for

from nemo_runspec.metrics_log import read_metrics
from nemo_runspec.mirror.metrics import WandbRun, read_wandb_run
from nemo_runspec.packaging.self_contained import SelfContainedPackager


@dataclass(frozen=True, kw_only=True)
class KilledTraining:
    """A training that was killed: what it wrote; what was there while it lived; and what was there in the end."""

    written: list[int]
    seen: list[int]
    noted: WandbRun | None
    run: dict[str, Any]
    note: WandbRun | None
    leftovers: list[Path]


@pytest.fixture(scope="module")
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> KilledTraining:
    stage = Stage(folder=tmp_path_factory.mktemp("killed"), server=request.getfixturevalue("wandb_process"))
    process = stage.start(last=100_000, pause_s=0.05)
    seen = wait_for(stage.steps)
    noted = read_wandb_run(stage.metrics)
    wait_for(lambda: len(read_metrics(stage.metrics)) > len(seen))
    process.kill()
    process.communicate()
    stage.wait_until_sent()
    return KilledTraining(
        written=[int(row["step"]) for row in read_metrics(stage.metrics)],
        seen=seen,
        noted=noted,
        run=stage.run(),
        note=read_wandb_run(stage.metrics),
        leftovers=list(stage.scratch.iterdir()),
    )


def test_rows_arrive_while_the_training_goes_on(killed: KilledTraining) -> None:
    assert killed.seen[0] == 1
    assert killed.seen == killed.written[: len(killed.seen)]
    assert len(killed.seen) < len(killed.written)


def test_all_that_a_killed_training_wrote_arrives_once_and_in_order(killed: KilledTraining) -> None:
    assert [row["_step"] for row in killed.run["history"]] == killed.written


def test_the_run_of_a_killed_training_is_failed(killed: KilledTraining) -> None:
    assert killed.run["state"] == "failed"


def test_a_row_has_what_was_logged_at_the_time_of_its_step(killed: KilledTraining) -> None:
    first, second = killed.run["history"][:2]
    assert {name: first[name] for name in ("loss", "lr", "tokens_per_s")} == {
        "loss": 1.0,
        "lr": 0.25,
        "tokens_per_s": 900.0,
    }
    assert not {"step", "total", "time"} & first.keys()
    assert 0.04 < second["_timestamp"] - first["_timestamp"] < 5.0


def test_the_run_has_the_config_of_the_training_and_its_origin(killed: KilledTraining) -> None:
    pipeline_run = killed.run["group"]
    assert killed.run["config"] == {
        "pipeline_run": pipeline_run,
        "stage": "pretrain",
        "optimizer": {"lr": 0.25},
        "fingerprint": "f0",
    }


def test_the_address_is_known_while_the_training_goes_on(killed: KilledTraining) -> None:
    assert killed.noted is not None
    entity, project, run_id = killed.noted.path.split("/")
    assert killed.noted.url == f"{killed.noted.server}/{entity}/{project}/runs/{run_id}"


def test_the_note_says_in_the_end_up_to_which_step_all_is_there(killed: KilledTraining) -> None:
    assert killed.note is not None
    assert killed.note.last_step == killed.written[-1]


def test_no_temporary_files_are_left(killed: KilledTraining) -> None:
    assert killed.leftovers == []


def test_three_attempts_are_one_run_with_each_step_once(stage: Stage) -> None:
    stage.train(last=20, total=60)
    stage.train(first=11, last=40, total=60)
    stage.train(first=31, last=60)
    stage.wait_until_sent()
    assert stage.steps() == list(range(1, 61))
    assert stage.run()["state"] == "finished"


def test_a_sync_right_after_the_training_waits_for_the_follower(stage: Stage) -> None:
    stage.train(last=30)
    stage.replay()
    assert stage.steps() == list(range(1, 31))
    wait_for(lambda: not stage.followers())  # the lock is free a moment before its process is gone


def test_what_a_killed_follower_left_out_is_sent_later(stage: Stage) -> None:
    training = stage.start(last=40, pause_s=0.2)
    stage.follower().kill()
    training.communicate()
    stage.replay()
    assert stage.steps() == list(range(1, 41))
    assert stage.run()["state"] == "finished"


def test_a_signal_to_all_of_the_job_costs_no_rows(stage: Stage) -> None:
    training = stage.start(last=60, pause_s=0.2)
    follower = stage.follower()
    (client,) = follower.children()
    follower.terminate()
    client.terminate()
    training.communicate()
    stage.wait_until_sent()
    assert stage.steps() == list(range(1, 61))


def test_the_stages_of_a_pipeline_run_are_one_group(new_stage: Callable[..., Stage]) -> None:
    first, second = new_stage(name="pretrain"), new_stage(name="sft")
    first.train(last=3)
    second.train(last=3)
    first.wait_until_sent()
    second.wait_until_sent()
    assert (first.run()["job_type"], second.run()["job_type"]) == ("pretrain", "sft")
    assert first.run()["group"] == second.run()["group"] == first.target.group


def test_a_training_from_one_file_has_the_follower_in_it(new_stage: Callable[..., Stage], tmp_path: Path) -> None:
    package = SelfContainedPackager(TRAINER).build()
    script = tmp_path / "main.py"
    script.write_bytes(package.files[package.script])
    stage = new_stage(script=script)
    training = stage.start(last=1000, pause_s=0.05)
    paths = stage.follower().environ()["PYTHONPATH"].split(":")
    training.kill()
    stage.wait_until_sent()
    assert paths[0] == str(script)
    assert "nemo_runspec/mirror/follow.py" in zipfile.ZipFile(script).namelist()
    assert stage.steps() != []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_kills_of_any_process_at_any_time_leave_each_step_once(stage: Stage, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(4):
        first = max(1, last_step(stage.metrics) - chance.randrange(20))
        training = stage.start(first=first, last=1000, pause_s=0.02)
        wait_for(stage.followers)
        time.sleep(chance.uniform(0.0, 6.0))
        victims = [psutil.Process(training.pid), *psutil.Process(training.pid).children(recursive=True)]
        chance.choice(victims).kill()
        time.sleep(chance.uniform(0.0, 3.0))
        training.kill()
        training.communicate()
    stage.train(first=max(1, last_step(stage.metrics) - 5), last=1000)
    stage.replay()
    assert stage.steps() == list(range(1, 1001))
    assert stage.run()["state"] == "finished"


def last_step(metrics: Path) -> int:
    return max((int(row["step"]) for row in read_metrics(metrics)), default=0)
