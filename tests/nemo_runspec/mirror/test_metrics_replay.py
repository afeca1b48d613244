"""What W&B lacks of the metrics of a training that has ended is sent later, once, whatever came in between."""

import json
import random
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import pytest
from metrics_stage import Stage

from nemo_runspec.errors import MirrorError
from nemo_runspec.metrics_log import read_metrics
from nemo_runspec.mirror.metrics import note_path, read_wandb_run, unsent_steps


def write(stage: Stage, rows: Iterable[Mapping[str, Any]], *, end: str = "") -> None:
    """The metrics file that a training left, `end` after its last whole line."""
    stage.metrics.parent.mkdir(parents=True)
    stage.metrics.write_text("".join(f"{json.dumps(row)}\n" for row in rows) + end)


def steps(*numbers: int, total: int, **values: Any) -> list[dict[str, Any]]:
    return [{"step": number, "total": total, "time": 1.7e9 + number, **values} for number in numbers]


def num_requests(stage: Stage) -> int:
    return sum(stage.server.state()["operations"].values())


@pytest.fixture(scope="module")
def offline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A stage that trained offline and was sent afterwards."""
    server = request.getfixturevalue("wandb_process")
    stage = Stage(folder=tmp_path_factory.mktemp("offline"), server=server, mode="offline")
    stage.train(last=6)
    assert stage.run() == {}
    assert stage.replay() == 6
    return stage


def test_the_rows_of_an_offline_training_have_the_time_of_their_steps(offline: Stage) -> None:
    times = [row["time"] for row in read_metrics(offline.metrics)]
    assert [row["_step"] for row in offline.run()["history"]] == [1, 2, 3, 4, 5, 6]
    assert [row["_timestamp"] for row in offline.run()["history"]] == times


def test_the_run_of_an_offline_training_is_as_that_of_one_online(offline: Stage) -> None:
    run = offline.run()
    assert (run["state"], run["job_type"], run["group"]) == ("finished", "pretrain", offline.target.group)
    assert run["config"]["optimizer"] == {"lr": 0.25}


def test_the_note_says_where_the_run_is(offline: Stage) -> None:
    run = read_wandb_run(offline.metrics)
    assert run is not None
    assert run.path == f"double/{offline.target.project}/{offline.target.run_id}"
    assert (run.url, run.last_step) == (
        f"{offline.server.url}/double/{offline.target.project}/runs/{offline.target.run_id}",
        6,
    )


def test_a_second_replay_sends_nothing_and_asks_nobody(offline: Stage) -> None:
    before = num_requests(offline)
    assert offline.replay() == 0
    assert num_requests(offline) == before


def test_where_a_step_was_written_twice_the_later_line_is_sent(stage: Stage) -> None:
    write(stage, [*steps(1, 2, 3, 4, total=9, loss=1.0), *steps(3, 4, 5, total=9, loss=2.0)])
    assert stage.replay() == 5
    history = [(row["_step"], row["loss"]) for row in stage.run()["history"]]
    assert history == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 2.0)]
    assert stage.run()["state"] == "failed"


def test_nasty_rows_keep_no_other_from_being_sent(stage: Stage) -> None:
    nasty = [
        {"step": 1, "loss": float("nan"), "note": "a\n\"b'$", "parts": {"router": 0.5}},
        {"step": None, "loss": 1.0},
        {"step": "2", "loss": 1.0},
        {"config": "none"},
        {"checkpoint": 1},
        {"step": 3, "loss": float("inf"), "empty": [], "none": None},
    ]
    write(stage, [*nasty, *steps(4, total=4, loss=1.0)], end='garbage\n[1]\n\x00\n{"step": 5, "lo')
    assert stage.replay() == 3
    assert stage.steps() == [1, 3, 4]
    assert stage.run()["history"][0]["note"] == "a\n\"b'$"


def test_rows_that_the_server_refused_are_sent_again(stage: Stage) -> None:
    write(stage, steps(*range(1, 8), total=7, loss=1.0))
    stage.server.fault(path="/files/", status=403, times=1_000_000)
    with pytest.raises(MirrorError, match="lacks steps 1 to 7 of double/"):
        stage.replay()
    stage.server.clear_faults()
    assert unsent_steps(stage.metrics, stage.target) == [1, 2, 3, 4, 5, 6, 7]
    assert stage.replay() == 7
    assert stage.steps() == [1, 2, 3, 4, 5, 6, 7]


def test_a_replay_that_was_killed_goes_on_where_the_server_is(stage: Stage) -> None:
    write(stage, steps(*range(1, 3_001), total=3_000, loss=1.0))
    stage.server.fault(path="/files/", skip=1, delay_s=600.0, times=1_000_000)
    with pytest.raises(MirrorError, match=r"was not sent to W&B server http.* within 6 s; wait, then run"):
        stage.replay(timeout_s=6)
    stage.server.clear_faults()
    stage.replay()
    assert stage.steps() == list(range(1, 3_001))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_replays_killed_at_any_time_leave_each_step_once(stage: Stage, seed: int) -> None:
    write(stage, steps(*range(1, 50_001), total=50_000, loss=1.0))
    times = random.Random(seed)
    for _ in range(6):
        with suppress(MirrorError):
            stage.replay(timeout_s=times.uniform(0.5, 8.0))
    stage.replay()
    assert stage.steps() == list(range(1, 50_001))
    assert stage.run()["state"] == "finished"


def test_a_key_that_the_server_does_not_know_is_told(new_stage: Callable[..., Stage]) -> None:
    stage = new_stage(key="4" * 40)
    write(stage, steps(1, total=1))
    with pytest.raises(MirrorError, match=f"{stage.metrics}: W&B .* API key"):
        stage.replay()


def test_without_the_client_the_error_says_how_to_get_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    write(stage, steps(1, total=1))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MirrorError, match=r"pip install 'nemotron-flows\[wandb\]'"):
        stage.replay()


def test_without_rows_there_is_nothing_to_send(stage: Stage) -> None:
    assert stage.replay() == 0
    write(stage, [{"checkpoint": 3}])
    assert stage.replay() == 0
    assert stage.run() == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"path": 3}', "\x00"])
def test_a_note_that_cannot_be_read_is_none(stage: Stage, text: str) -> None:
    write(stage, steps(1, 2, total=2))
    note_path(stage.metrics).write_text(text)
    assert read_wandb_run(stage.metrics) is None
    assert unsent_steps(stage.metrics, stage.target) == [1, 2]


@pytest.mark.parametrize(
    "other", [{"project": "other"}, {"run_id": "other"}, {"base_url": "http://other"}, {"entity": "other"}]
)
def test_what_another_run_has_is_still_to_be_sent(offline: Stage, other: dict[str, str]) -> None:
    assert unsent_steps(offline.metrics, offline.target) == []
    assert len(unsent_steps(offline.metrics, offline.target.model_copy(update=other))) == 6


def test_the_key_s_default_entity_is_known_as_the_run_s(offline: Stage) -> None:
    assert unsent_steps(offline.metrics, offline.target.model_copy(update={"entity": None})) == []
