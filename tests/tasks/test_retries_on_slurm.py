"""A stage whose job ends for no fault of its own gets another, by itself: on the real cluster."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster.cluster import Cluster
from small_recipe import options, write_recipe

from nemo_runspec.profiles import Profile, format_toml
from nemotron.tasks.stage import StageResult, run_stage

# The first attempt waits to be hurt.
BODY = "import time; n = Path(os.environ['NEMOTRON_JOB_DIR']).name; (n == 'a1' and time.sleep(300)) or None"


@pytest.fixture
def started(
    slurm: Cluster,  # noqa: ARG001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Future[StageResult]:
    profile = Profile(executor="slurm", mem="300M", time="10", poll_interval_s=1)
    (tmp_path / "env.toml").write_text(format_toml("it", profile))
    monkeypatch.chdir(tmp_path)
    stage = write_recipe(tmp_path, body=BODY)
    return ThreadPoolExecutor(1).submit(run_stage, stage, options(tmp_path, run_id=tmp_path.name, profile="it"), {})


def node_of_the_job(cluster: Cluster) -> str:
    deadline = time.monotonic() + 60
    while not (node := cluster.ask("squeue", "-h", "-t", "R", "-o", "%N")):
        assert time.monotonic() < deadline, "the job does not start"
        time.sleep(0.2)
    return node


def wait_for_script(project: Path) -> None:
    deadline = time.monotonic() + 60
    while not list(project.glob(".nemotron/work/*/out/text")):
        assert time.monotonic() < deadline, "the script does not begin"
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("has_begun", "endings"),
    [(True, {"NODE_FAIL"}), pytest.param(False, {"NODE_FAIL", "LAUNCH_FAILED"}, marks=pytest.mark.slow)],
)
def test_a_stage_goes_on_elsewhere_when_its_node_dies(
    slurm: Cluster, started: Future[StageResult], tmp_path: Path, has_begun: bool, endings: set[str]
) -> None:
    node = node_of_the_job(slurm)
    if has_begun:
        wait_for_script(tmp_path)
    slurm.kill(f"slurmd-{node}")
    first, second = started.result(timeout=150).jobs
    assert first.ending in endings
    assert first.nodes == node
    assert second.ending == "COMPLETED"
    assert second.nodes != node


def test_a_preempted_stage_starts_again(slurm: Cluster, started: Future[StageResult]) -> None:
    node = node_of_the_job(slurm)
    slurm.ask("sbatch", "-p", "high", "-w", node, "--exclusive", "-o", "/dev/null", "--wrap", "sleep 5")
    first, second = started.result(timeout=150).jobs
    assert (first.ending, second.ending) == ("PREEMPTED", "COMPLETED")
    assert first.job_id != second.job_id


def test_a_stage_that_somebody_ended_with_scancel_is_not_started_again(
    slurm: Cluster, started: Future[StageResult]
) -> None:
    node_of_the_job(slurm)
    slurm.cancel_all()
    with pytest.raises(Exception, match=r"ended as CANCELLED.*somebody ended it with scancel"):
        started.result(timeout=60)
