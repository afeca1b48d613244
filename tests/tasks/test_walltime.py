"""A stage that needs more time than a job may have, on the real cluster: jobs of one minute each."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster.cluster import Cluster
from small_recipe import options, write_recipe

from nemo_runspec.errors import StageFailed
from nemo_runspec.profiles import Profile, format_toml
from nemotron.tasks.stage import StageResult, run_stage

# Needs 100 s; each job of a minute is told to stop 30 s (or, as Slurm may, some more) before its end.
COUNTS = """
import time
from nemo_runspec.metrics_log import MetricsLog
from nemo_runspec.stop import StopRequested, stop_requested

def count(folder, *, saves):
    state, log = folder / "state", MetricsLog(total=1000)
    done = int(state.read_text()) if state.exists() else 0
    for step in range(done + 1, 1001):
        time.sleep(0.1)
        log.log(step, {"loss": 1.0 / step})
        if saves and stop_requested():
            state.write_text(str(step))
            log.log_checkpoint(step)
            raise StopRequested(step)
"""
BODY = "import sys; sys.path.insert(0, str(Path(__file__).parent.parent)); from counting import count; {call}"


@pytest.fixture(scope="module")
def runs(slurm_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[StageResult]]]:
    """A stage that saves when it is told to stop, and one that does not; side by side, because both take minutes."""
    profile = Profile(executor="slurm", mem="300M", time="1", poll_interval_s=2, stop_before_end_s=30)
    folder = tmp_path_factory.mktemp("walltime")
    (folder / "env.toml").write_text(format_toml("short", profile))
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool:
        for name, value in slurm_cluster.env.items():
            patch.setenv(name, value)
        patch.chdir(folder)
        started = {}
        for name, saves in (("saves", True), ("loses", False)):
            call = f"count(Path(os.environ['NEMO_RUN_DIR']), saves={saves})"
            stage = write_recipe(folder / name, body=BODY.format(call=call))
            (stage.script.parent.parent / "counting.py").write_text(COUNTS)
            started[name] = pool.submit(run_stage, stage, options(folder / name, run_id=name, profile="short"), {})
        yield started


def test_a_stage_that_needs_three_time_limits_finishes_by_itself(runs: dict[str, Future[StageResult]]) -> None:
    result = runs["saves"].result(timeout=400)
    endings = [job.ending for job in result.jobs]
    assert set(endings[:-1]) == {"STOPPED"}
    assert endings[-1] == "COMPLETED"
    assert len(endings) >= 3
    saved = [job.saved_step for job in result.jobs]
    assert saved == sorted(saved)
    steps = (Path(result.work_dir) / "metrics.jsonl").read_text().count('"step": 1000')
    assert steps == 1


def test_a_stage_that_saved_nothing_within_the_time_limit_stops_with_advice(
    runs: dict[str, Future[StageResult]],
) -> None:
    with pytest.raises(StageFailed, match=r"ended as TIMEOUT.*before a checkpoint was saved.*raise time") as error:
        runs["loses"].result(timeout=400)
    assert not error.value.may_retry
