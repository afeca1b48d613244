"""`nemotron worker`: it starts flow runs, and they outlive it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from flow_runs import deploy, start, state, wait_for_state
from team_server import TeamServer, kill_program, nemotron, program_pid, wait_until

NAME, POOL = "tester", "trivial"
VARIABLES = {
    "command": {"type": "string"},
    "env": {"type": "object"},
    "stream_output": {"type": "boolean", "default": True},
}
# As somebody else may have made the pool: its flow runs print into pipes of their worker.
TEMPLATE = {
    "job_configuration": {name: f"{{{{ {name} }}}}" for name in VARIABLES},
    "variables": {"properties": VARIABLES},
}
Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "env.toml").touch()
    return folder


@pytest.fixture(scope="module")
def run(team: TeamServer, project: Path) -> Iterator[Run]:
    """Runs `nemotron worker WORDS` in the project, for a pool of these tests; in the end the worker is stopped."""
    env = team.env | {"PREFECT_WORKER_QUERY_SECONDS": "1"}

    def run_worker(*words: str) -> CompletedProcess[str]:
        pool = ("--pool", POOL) if words == ("--detach",) else ()
        return nemotron("worker", *words, "--name", NAME, *pool, cwd=project, **env)

    yield run_worker
    run_worker("stop")


@pytest.fixture(scope="module")
def taken_run(team: TeamServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run that a worker of that name had taken when it was killed, as Prefect's worker asks before it starts one."""
    team.ask("work_pools/", {"name": POOL, "type": "process", "base_job_template": TEMPLATE})
    path = tmp_path_factory.mktemp("taken") / "file"
    run = start(team, deploy(team, "note", pool=POOL), {"path": str(path)})
    team.ask(f"flow_runs/{run}/set_state", {"state": {"type": "PENDING"}})
    team.ask(f"flow_runs/{run}/labels", {"prefect.worker.name": NAME}, method="PATCH")
    return run


@pytest.fixture
def worker(run: Run, project: Path, taken_run: str) -> Path:  # noqa: ARG001
    """The folder of the worker, which runs in the background."""
    done = run("--detach")
    assert done.returncode == 0, done.stderr
    return project / ".nemotron" / "workers" / NAME


def logged(team: TeamServer, flow_run: str) -> list[str]:
    by_run = {"logs": {"flow_run_id": {"any_": [flow_run]}}}
    return [line["message"] for line in team.ask("logs/filter", by_run)]


@pytest.mark.usefixtures("worker")
def test_a_run_that_a_killed_worker_had_taken_and_not_started_is_started_by_the_next(
    team: TeamServer, taken_run: str
) -> None:
    wait_for_state(team, taken_run, "COMPLETED")


def test_a_killed_worker_costs_nothing(team: TeamServer, worker: Path, tmp_path: Path) -> None:
    go_on, begun, second = tmp_path / "go-on", tmp_path / "begun", tmp_path / "second"
    long = start(team, deploy(team, "wait_for", pool=POOL), {"path": str(go_on), "begun": str(begun)})
    wait_until(begun.exists, timeout_s=120)

    kill_program(worker, "worker")

    next_one = start(team, deploy(team, "note", pool=POOL), {"path": str(second)})
    wait_for_state(team, next_one, "COMPLETED")
    assert second.read_text() == "done"
    assert state(team, long) == "RUNNING"
    go_on.touch()
    wait_for_state(team, long, "COMPLETED")
    wait_until(lambda: "job 4711: RUNNING" in logged(team, next_one))


def test_a_stopped_worker_leaves_its_flow_runs_running_and_names_them(
    team: TeamServer, run: Run, worker: Path, tmp_path: Path
) -> None:
    wait_until(lambda: "flow runs: 0\n" in run("status").stdout)  # of earlier tests
    go_on, begun = tmp_path / "go-on", tmp_path / "begun"
    flow_run = start(team, deploy(team, "wait_for", pool=POOL), {"path": str(go_on), "begun": str(begun)})
    wait_until(begun.exists, timeout_s=120)
    status = run("status").stdout
    said = run("stop").stdout
    go_on.touch()

    assert f"worker {NAME} runs; flow runs: 1\n" in status
    assert said == f"stopped\nflow runs that go on without it: {flow_run}\n"
    assert run("status").returncode == 1
    assert program_pid(worker, "worker") == 0
    wait_for_state(team, flow_run, "COMPLETED")


def test_a_worker_in_the_background_is_known_to_the_server_at_once(team: TeamServer, project: Path) -> None:
    env = team.env | {"PREFECT_WORKER_QUERY_SECONDS": "1"}
    try:
        done = nemotron("worker", "--detach", "--name", "new", "--pool", "new", cwd=project, **env)
        assert done.returncode == 0, done.stderr
        (known,) = team.ask("work_pools/new/workers/filter", {})
        assert (known["name"], known["status"]) == ("new", "ONLINE")
    finally:
        nemotron("worker", "stop", "--name", "new", cwd=project, **env)


def test_a_second_worker_of_the_same_name_is_not_started(run: Run, worker: Path) -> None:
    before = program_pid(worker, "worker")
    assert run("--detach").returncode == 0
    assert program_pid(worker, "worker") == before


def test_a_worker_without_a_server_is_refused_in_a_line(project: Path) -> None:
    done = nemotron("worker", cwd=project)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no Prefect API is configured; ")


def test_a_worker_with_a_wrong_password_is_refused_in_a_line(team: TeamServer, project: Path) -> None:
    done = nemotron("worker", "--detach", cwd=project, **team.env | {"PREFECT_API_AUTH_STRING": "a:b"})
    assert done.returncode == 2
    assert done.stderr == f"error: Prefect API {team.api_url} answered 401 Unauthorized\n"
