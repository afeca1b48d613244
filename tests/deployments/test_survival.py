"""What becomes of a run whose Slurm job lives while the worker, the server or the database are killed, or are away."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster.cluster import Cluster
from flow_runs import make_deployment, retry_crashed, state, task_runs, wait_for_state
from small_recipe import write_recipe
from team_server import TeamServer, kill_program, nemotron, wait_until

from nemo_runspec.artifacts import ArtifactStore

WORKER, POOL = "survivor", "nemotron"
PROFILE = '[lab]\nexecutor = "slurm"\nmem = "1G"\ntime = "00:10:00"\npoll_interval_s = 1\n'
# As deployments/prefect.yaml has it.
PATIENT = {"PREFECT_CLIENT_MAX_RETRIES": "8"}
UNTIL_TOLD = """import time
    while not Path(config["text"]).exists():
        time.sleep(0.1)
    if Path(config["text"]).read_text():
        raise DataError("told to fail")"""


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A project on the cluster, and a deployment of one stage whose job ends when it is told to."""

    team: TeamServer
    cluster: Cluster
    project: Path
    env: dict[str, str]
    deployment: str = ""

    def worker(self, *words: str) -> None:
        """`nemotron worker WORDS`."""
        done = nemotron("worker", *words, "--name", WORKER, cwd=self.project, **self.env)
        assert done.returncode == 0, done.stderr

    def worker_folder(self) -> Path:
        return self.project / ".nemotron" / "workers" / WORKER

    def kill(self, program: str) -> None:
        """End a worker, server or postgres by SIGKILL."""
        kill_program(self.worker_folder() if program == "worker" else self.team.dir, program)

    def start(self, run_id: str) -> "LabRun":
        """A new run, when its job runs."""
        go_on = self.project / run_id
        parameters = {
            "recipe": "small",
            "script": str(self.project / "recipe" / "stage0" / "data_prep.py"),
            "config": "default",
            "run_id": run_id,
            "stages": ["data_prep"],
            "overrides": [f"text={go_on}"],
            "profile": "lab",
            "directory": str(self.project),
            "project_dir": str(self.project),
        }
        made = self.team.ask(f"deployments/{self.deployment}/create_flow_run", {"parameters": parameters})
        run = LabRun(lab=self, run_id=run_id, id=str(made["id"]), go_on=go_on)
        wait_until(lambda: run.jobs() == ["RUNNING"], timeout_s=120)
        return run


@dataclass(frozen=True, kw_only=True)
class LabRun:
    """One run, its only stage and its job."""

    lab: Lab
    run_id: str
    id: str
    go_on: Path

    def end_job(self, *, why: str = "") -> None:
        """Let the job end, well or for that reason, and wait until it has."""
        new = self.go_on.with_suffix(".new")
        new.write_text(why)
        new.rename(self.go_on)  # the job reads it as soon as it is there
        wait_until(lambda: self.jobs() == ["FAILED" if why else "COMPLETED"])

    def jobs(self) -> list[str]:
        """The states of all jobs that the run has ever submitted, also of those that squeue has forgotten."""
        lines = self.lab.cluster.ask("sacct", "-nXP", "-S", "now-2hours", "-o", "JobName,State").splitlines()
        return [line.split("|")[1] for line in lines if line.startswith(f"{self.run_id}-")]

    def tasks(self) -> list[tuple[str, str]]:
        """Those that the server knows, and their states."""
        return [(task["name"], task["state_name"]) for task in task_runs(self.lab.team, self.id)]

    def settled_tasks(self) -> list[str]:
        """Their states in the order of their starts, once `reaper/jobs` has seen to them ten minutes later."""
        reaper = [sys.executable, "-m", "nemotron.tasks.reaper", "--project", str(self.lab.project), "--grace-s", "0"]
        env = {**os.environ, **self.lab.env}
        done = subprocess.run(reaper, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return [state for _, state in self.tasks()]

    def artifacts(self) -> list[str]:
        """Those that the run has made."""
        store = ArtifactStore(self.lab.project / ".nemotron" / "artifacts")
        made = [ref for name in store.names() for ref in store.versions(name)]
        return [ref.name for ref in made if store.record(ref).producer.run_id == self.run_id]

    def processes(self) -> list[int]:
        """The flow's own."""
        wanted = f"PREFECT__FLOW_RUN_ID={self.id}".encode()
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if is_flow(path, wanted)]

    def check_nothing_was_lost(self) -> None:
        """It ends well, after one job, with its artifact."""
        wait_for_state(self.lab.team, self.id, "COMPLETED")
        assert self.jobs() == ["COMPLETED"]
        assert self.artifacts() == ["small-data"]
        wait_until(lambda: self.settled_tasks() == ["Completed"])


def is_flow(path: Path, wanted: bytes) -> bool:
    """Whether the process is that flow run's, and not a Slurm job's, which inherits its environment."""
    try:
        words = (path / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return wanted in words and not any(word.startswith(b"SLURM_JOB_ID=") for word in words)


def deploy(team: TeamServer) -> str:
    """The id of a deployment of the flow of one stage."""
    return make_deployment(team, "stage", entrypoint="nemotron.flows.stage.stage", pool=POOL, **PATIENT)


@pytest.fixture(scope="module")
def lab(team: TeamServer, slurm_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The project, its worker, and the deployment."""
    project = tmp_path_factory.mktemp("project")
    (project / "env.toml").write_text(PROFILE)
    write_recipe(project, body=UNTIL_TOLD)
    env = team.env | slurm_cluster.env | {"PREFECT_WORKER_QUERY_SECONDS": "1"}
    lab = Lab(team=team, cluster=slurm_cluster, project=project, env=env)
    lab.worker("--detach")
    yield Lab(**vars(lab) | {"deployment": deploy(team)})
    lab.worker("stop")
    slurm_cluster.cancel_all()


@pytest.mark.parametrize("program", ["worker", "server", "postgres"])
def test_a_program_that_is_killed_while_a_job_runs_costs_nothing(lab: Lab, program: str) -> None:
    run = lab.start(f"killed-{program}")
    lab.kill(program)
    run.end_job()
    run.check_nothing_was_lost()
    wait_until(lambda: run.tasks() == [("small", "Completed")])


def outlive(lab: Lab, name: str, *, away_s: float) -> tuple[LabRun, LabRun]:
    """Two runs whose jobs end while the API is away, one of them badly; the API stays away for that long."""
    good, bad = lab.start(f"{name}-good"), lab.start(f"{name}-bad")
    down = lab.team.nemotron("down")
    assert down.returncode == 0, down.stderr
    good.end_job()
    bad.end_job(why="fail")
    time.sleep(away_s)
    up = lab.team.nemotron("up")
    assert up.returncode == 0, up.stderr
    return good, bad


@pytest.fixture(scope="module")
def short_outage(lab: Lab) -> tuple[LabRun, LabRun]:
    return outlive(lab, "short", away_s=5)


def test_a_job_that_ends_while_the_api_is_away_completes_its_run(short_outage: tuple[LabRun, LabRun]) -> None:
    short_outage[0].check_nothing_was_lost()


def test_a_job_that_fails_while_the_api_is_away_fails_its_run(short_outage: tuple[LabRun, LabRun]) -> None:
    run = short_outage[1]
    wait_for_state(run.lab.team, run.id, "FAILED")
    assert run.jobs() == ["FAILED"]
    assert run.artifacts() == []
    wait_until(lambda: run.settled_tasks() == ["Failed"])


@pytest.mark.slow
def test_five_minutes_without_the_api_cost_nothing(lab: Lab) -> None:
    good, bad = outlive(lab, "long", away_s=300)
    wait_until(lambda: state(lab.team, good.id) == "COMPLETED", timeout_s=600)
    good.check_nothing_was_lost()
    wait_until(lambda: state(lab.team, bad.id) == "FAILED", timeout_s=600)
    assert bad.jobs() == ["FAILED"]
    wait_until(lambda: bad.settled_tasks() == ["Failed"])


def test_a_retry_of_a_crashed_run_takes_up_the_job_that_lives(lab: Lab) -> None:
    run = lab.start("crashed")
    for pid in run.processes():
        with suppress(ProcessLookupError):  # a squeue, which has ended meanwhile
            os.kill(pid, signal.SIGKILL)
    wait_for_state(lab.team, run.id, "CRASHED")
    assert run.jobs() == ["RUNNING"]
    retry_crashed(lab.team, run.id)
    run.end_job()
    wait_for_state(lab.team, run.id, "COMPLETED")
    assert run.jobs() == ["COMPLETED"]
    assert run.artifacts() == ["small-data"]
    # Reused where the job was faster than the run that looked for it.
    wait_until(lambda: run.settled_tasks() in (["Crashed", "Completed"], ["Crashed", "Reused"]))
