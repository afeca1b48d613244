"""Every way in which a job can end, on the real cluster: each is recorded as itself, with what follows from it."""

import signal
import time
from pathlib import Path

import pytest
from bare_job import CLIENT, BareJob, prepare, wait, wait_for_state
from cluster.cluster import Cluster
from cluster.ssh_server import wait_for

from nemo_runspec.slurm.ledger import Verdict
from nemo_runspec.slurm.monitor import Monitor, Watched
from nemo_runspec.slurm.states import POLICIES, Ending

EATS_MEMORY = 'python3 -c "b = bytearray(600 * 2**20); import time; time.sleep(20)"'
SLEEPS = "sleep 300"


def watch(monitor: Monitor, job: BareJob) -> Watched:
    return monitor.watch(job.attempt, job.submit(), num_gpus=0)


@pytest.fixture(scope="module")
def monitor() -> Monitor:
    return Monitor(client=CLIENT, poll_s=2.0)


@pytest.fixture(scope="module")
def endings(slurm_cluster: Cluster, monitor: Monitor, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """The verdicts on jobs that end by themselves, side by side because a time limit takes a minute."""
    folder = tmp_path_factory.mktemp("endings")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in slurm_cluster.env.items():
            patch.setenv(name, value)
        failed = slurm_cluster.ask("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "exit 1")
        jobs = {
            "exit 0": prepare(folder / "ok", "exit 0"),
            "exit 3": prepare(folder / "exit3", "exit 3"),
            "killed": prepare(folder / "killed", "kill -9 $PPID"),
            "time": prepare(folder / "time", SLEEPS, directives=["--time=1"]),
            "stopped": prepare(
                folder / "stopped",
                "while [ ! -e stop ]; do sleep 0.5; done; exit 75",
                directives=["--time=2"],  # the signal may be 60 s early, sbatch(1): not before the script is there
                stop_before_end_s=45,
            ),
            "memory": prepare(folder / "memory", EATS_MEMORY, directives=["--mem=100M"]),
            "memory of a step": prepare(folder / "step", f"srun {EATS_MEMORY}", directives=["--mem=100M"]),
            "dependency": prepare(folder / "dependency", "exit 0", directives=[f"--dependency=afterok:{failed}"]),
            "output": prepare(folder / "output", "exit 0"),
        }
        missing = folder / "missing" / "log.txt"
        jobs["output"].options[:] = [
            f"--output={missing}" if option.startswith("--output=") else option for option in jobs["output"].options
        ]
        watched = {name: watch(monitor, job) for name, job in jobs.items()}
        return {name: wait(monitor, job, timeout_s=240) for name, job in watched.items()}


@pytest.mark.parametrize(
    ("case", "ending", "policy"),
    [
        ("exit 0", Ending.COMPLETED, "done"),
        ("exit 3", Ending.FAILED, "failure"),
        ("killed", Ending.FAILED, "failure"),
        ("time", Ending.TIMEOUT, "resume"),
        ("stopped", Ending.STOPPED, "resume"),
        ("dependency", Ending.DEPENDENCY, "final"),
        ("output", Ending.LAUNCH_FAILED, "infrastructure"),
    ],
)
def test_an_ending_is_recorded_as_itself(endings: dict[str, Verdict], case: str, ending: Ending, policy: str) -> None:
    assert endings[case].ending is ending
    assert POLICIES[ending] == policy


@pytest.mark.skipif(not Path("/sys/fs/cgroup/memory").is_dir(), reason="memory limits need cgroup v1 here")
@pytest.mark.parametrize("case", ["memory", "memory of a step"])
def test_running_out_of_memory_is_recorded_as_itself(endings: dict[str, Verdict], case: str) -> None:
    assert endings[case].ending is Ending.OUT_OF_MEMORY


def test_the_exit_code_and_the_node_are_told(endings: dict[str, Verdict]) -> None:
    assert endings["exit 3"].exit_code == "3:0"
    assert endings["exit 3"].nodes.startswith("node")
    assert 60 <= endings["time"].run_s <= 100


@pytest.mark.slow  # by default test_retries_on_slurm sees one
def test_a_dead_node_is_recorded_as_node_fail(slurm: Cluster, monitor: Monitor, tmp_path: Path) -> None:
    job = watch(monitor, prepare(tmp_path / "dead", SLEEPS, directives=["--nodelist=node4"]))
    wait_for_state(monitor, job, "RUNNING")
    slurm.kill("slurmd-node4")
    verdict = wait(monitor, job)
    assert (verdict.ending, verdict.nodes) == (Ending.NODE_FAIL, "node4")
    assert POLICIES[verdict.ending] == "infrastructure"


def preempt(cluster: Cluster, node: str) -> str:
    """Start a job of higher priority that takes the whole node for 3 s."""
    return cluster.ask(
        "sbatch", "--parsable", "-p", "high", "-w", node, "--exclusive", "-o", "/dev/null", "--wrap", "sleep 3"
    )


def test_a_preempted_job_is_recorded_as_preempted(slurm: Cluster, monitor: Monitor, tmp_path: Path) -> None:
    job = watch(monitor, prepare(tmp_path / "preempted", SLEEPS, directives=["--nodelist=node3", "--exclusive"]))
    wait_for_state(monitor, job, "RUNNING")
    preempt(slurm, "node3")
    assert wait(monitor, job).ending is Ending.PREEMPTED


def test_a_preempted_job_that_slurm_may_requeue_is_followed_to_its_end_under_its_id(
    slurm: Cluster, monitor: Monitor, tmp_path: Path
) -> None:
    body = "[ -e ran ] && exit 0; touch ran; sleep 300"
    directives = ["--nodelist=node3", "--exclusive"]
    job = watch(monitor, prepare(tmp_path / "requeued", body, directives=directives, requeue=True))
    wait_for_state(monitor, job, "RUNNING")
    wait_for((job.attempt.folder / "ran").exists)
    preempt(slurm, "node3")
    first_id = job.job_id
    verdict = wait(monitor, job)
    assert (verdict.ending, verdict.job_id) == (Ending.COMPLETED, first_id)


@pytest.mark.parametrize("away_s", [15, pytest.param(60, marks=pytest.mark.slow)])
def test_slurmctld_away_is_no_verdict_and_no_cancel(
    slurm: Cluster, monitor: Monitor, tmp_path: Path, away_s: int
) -> None:
    job = watch(monitor, prepare(tmp_path / "control", f"sleep {away_s + 15}; exit 4"))
    wait_for_state(monitor, job, "RUNNING")
    slurm.kill("slurmctld", signal.SIGTERM)  # what it acknowledged just before a SIGKILL it may not know afterwards
    monitor.hurry()
    time.sleep(away_s)
    assert job.verdict is None
    slurm.up()
    verdict = wait(monitor, job)
    assert (verdict.ending, verdict.exit_code) == (Ending.FAILED, "4:0")


@pytest.mark.parametrize("away_s", [5, pytest.param(120, marks=pytest.mark.slow)])
def test_slurmdbd_away_is_no_verdict_but_what_the_job_says_of_itself(
    slurm: Cluster, monitor: Monitor, tmp_path: Path, away_s: int
) -> None:
    slurm.kill("slurmdbd")
    bodies = {code: f"sleep {away_s + 10}; exit {code}" for code in (0, 5)}
    jobs = {code: watch(monitor, prepare(tmp_path / f"exit{code}", body)) for code, body in bodies.items()}
    time.sleep(away_s - 3)
    assert [job.verdict for job in jobs.values()] == [None, None]
    completed = wait(monitor, jobs[0])
    slurm.up()
    failed = wait(monitor, jobs[5])
    assert (completed.ending, completed.job_id) == (Ending.COMPLETED, jobs[0].job_id)
    assert (failed.ending, failed.exit_code) == (Ending.FAILED, "5:0")
