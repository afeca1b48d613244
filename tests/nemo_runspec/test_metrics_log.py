import json
import time
from pathlib import Path

import pytest

from nemo_runspec.metrics_log import MetricsLog, read_metrics, saved_step


def test_a_resumed_step_replaces_the_first_one(tmp_path: Path) -> None:
    log = MetricsLog(total=3, path=tmp_path / "m.jsonl")
    log.log(1, {"loss": 5.0})
    log.log(2, {"loss": 4.0})
    log.log(2, {"loss": 3.5})
    assert [(row["step"], row["loss"]) for row in read_metrics(log.path)] == [(1, 5.0), (2, 3.5)]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1, "total": 2, "loss": 5.0}\n{"step": 2, "to')
    assert [row["step"] for row in read_metrics(path)] == [1]


def test_a_missing_file_has_no_steps(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_checkpoints_are_no_steps(tmp_path: Path) -> None:
    log = MetricsLog(total=3, path=tmp_path / "m.jsonl")
    log.log(1, {"loss": 5.0})
    log.log_checkpoint(1)
    assert [row["step"] for row in read_metrics(log.path)] == [1]


def test_the_last_checkpoint_is_the_saved_step(tmp_path: Path) -> None:
    log = MetricsLog(total=9, path=tmp_path / "m.jsonl")
    log.log_checkpoint(3)
    log.log_checkpoint(6)
    log.log(7, {"loss": 5.0})
    assert saved_step(log.path) == 6


def test_a_torn_checkpoint_line_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"checkpoint": 3}\n{"checkpoint": 6')
    assert saved_step(path) == 3


def test_nothing_is_saved_where_there_is_no_file(tmp_path: Path) -> None:
    assert saved_step(tmp_path / "none.jsonl") == 0


def test_a_torn_line_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"checkpoint": 3}\n{"step": 4, "to')
    MetricsLog(total=9, path=path).log_checkpoint(6)
    assert saved_step(path) == 6


def test_a_step_says_when_it_was(tmp_path: Path) -> None:
    log = MetricsLog(total=9, path=tmp_path / "m.jsonl")
    before = time.time()
    log.log(1, {"loss": 5.0})
    (row,) = read_metrics(log.path)
    assert before - 0.001 <= row["time"] <= time.time() + 0.001


def test_what_is_trained_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOTRON_FINGERPRINT", "f0")
    log = MetricsLog(total=9, path=tmp_path / "m.jsonl", config={"optimizer": {"lr": 0.1}})
    log.log(1, {"loss": 5.0})
    first, _ = log.path.read_text().splitlines()
    assert json.loads(first) == {"config": {"optimizer": {"lr": 0.1}, "fingerprint": "f0"}}


@pytest.mark.parametrize("line", ['{"step": null}', '{"step": "2"}', '{"step": 2.5}', "[1]", "3", "null", "NaN"])
def test_a_line_that_is_no_step_is_left_out(tmp_path: Path, line: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(f'{line}\n{{"step": 1}}\n{line}\n')
    assert read_metrics(path) == [{"step": 1}]
