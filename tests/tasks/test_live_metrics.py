import json
import math
from pathlib import Path

import pytest

from nemo_runspec.metrics_log import MetricsLog
from nemotron.tasks.live_metrics import MAX_POINTS, LiveMetrics, thin


@pytest.fixture
def log(tmp_path: Path) -> MetricsLog:
    return MetricsLog(total=1000, path=tmp_path / "metrics.jsonl")


def points_of(metrics: LiveMetrics) -> list[tuple[float, float]]:
    metrics.look()
    found = metrics.curve()
    assert found is not None
    return list(found[1])


def test_a_file_that_is_not_there_yet_says_nothing(tmp_path: Path) -> None:
    metrics = LiveMetrics(path=tmp_path / "none.jsonl")
    metrics.look()
    assert (metrics.last, metrics.curve(), metrics.fraction, metrics.seconds_left) == ({}, None, 0.0, None)


def test_what_is_added_is_seen_at_the_next_look(log: MetricsLog) -> None:
    metrics = LiveMetrics(path=log.path)
    log.log(1, {"loss": 4.0})
    assert points_of(metrics) == [(1, 4.0)]
    log.log(250, {"loss": 3.0})
    assert points_of(metrics) == [(1, 4.0), (250, 3.0)]
    assert metrics.fraction == 0.25


def test_a_training_that_goes_on_at_an_earlier_step_takes_back_what_came_after(log: MetricsLog) -> None:
    for step in (1, 2, 3, 4):
        log.log(step, {"loss": float(step)})
    log.log(3, {"loss": 9.0})
    metrics = LiveMetrics(path=log.path)
    assert points_of(metrics) == [(1, 1.0), (2, 2.0), (3, 9.0)]
    assert metrics.last["step"] == 3
    assert metrics.seconds_left is None  # the time between the attempts says nothing


def test_the_time_left_is_by_the_last_steps(tmp_path: Path) -> None:
    rows = [{"step": step, "total": 110, "time": 1000.0 + 2 * step} for step in range(1, 101)]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    metrics = LiveMetrics(path=tmp_path / "metrics.jsonl")
    metrics.look()
    assert metrics.seconds_left == pytest.approx(20.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, None, "x"])
def test_what_cannot_be_drawn_is_left_out(log: MetricsLog, value: float) -> None:
    log.log(1, {"loss": 4.0})
    log.log(2, {"loss": value})
    assert points_of(LiveMetrics(path=log.path)) == [(1, 4.0)]


def test_a_long_training_keeps_few_points_and_its_extremes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = (
        {"step": step, "total": 30_000, "loss": {7_777: 99.0, 22_222: -99.0}.get(step, 1.0)}
        for step in range(1, 30_001)
    )
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    points = points_of(LiveMetrics(path=path))
    assert len(points) <= MAX_POINTS
    assert {(7_777, 99.0), (22_222, -99.0)} < set(points)
    assert points == sorted(points)
    assert points[-1][0] > 29_900


def test_thinning_keeps_the_order_and_the_ends_of_a_fall() -> None:
    assert thin([(1, 9.0), (2, 8.0), (3, 7.0), (4, 6.0), (5, 5.0)]) == [(1, 9.0), (4, 6.0), (5, 5.0)]
