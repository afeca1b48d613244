"""Deployments of the trivial flows, and their runs, by the API."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from team_server import TeamServer, wait_until

FLOWS = Path(__file__).resolve().parent / "deployments"


def deploy(team: TeamServer, flow: str, *, pool: str) -> str:
    """The id of the deployment of one of the trivial flows, made now or before."""
    return make_deployment(
        team, flow.replace("_", "-"), entrypoint=f"trivial_flows.py:{flow}", pool=pool, directory=FLOWS
    )


def make_deployment(
    team: TeamServer, flow: str, *, entrypoint: str, pool: str = "nemotron", directory: Path | None = None, **env: str
) -> str:
    """The id of a deployment of the flow; its runs begin in the directory, if one is given, with `env` besides."""
    step = {"prefect.deployments.steps.set_working_directory": {"directory": str(directory)}}
    wanted = {
        "name": "test",
        "flow_id": team.ask("flows/", {"name": flow})["id"],
        "work_pool_name": pool,
        "entrypoint": entrypoint,
        "pull_steps": [step] if directory else [],
        "job_variables": {"env": env} if env else {},
    }
    return str(team.ask("deployments/", wanted)["id"])


def start(team: TeamServer, deployment: str, parameters: Mapping[str, Any]) -> str:
    """The id of a new run of the deployment."""
    made = team.ask(f"deployments/{deployment}/create_flow_run", {"parameters": parameters})
    return str(made["id"])


def state(team: TeamServer, run: str) -> str:
    return str(team.ask(f"flow_runs/{run}")["state_type"])


def retry(team: TeamServer, run: str) -> None:
    """As the UI's button does it."""
    team.ask(f"flow_runs/{run}/set_state", {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}})


def retry_crashed(team: TeamServer, run: str) -> None:
    """Have it run again.

    Prefect says Crashed a second time seconds later, after its hooks: that undoes a retry no process has taken yet, and
    does not matter to one that a process has taken.
    """
    for _ in range(4):
        retry(team, run)
        with suppress(AssertionError):
            wait_until(lambda: state(team, run) in ("RUNNING", "COMPLETED"), timeout_s=45)
            return
    raise AssertionError(f"{run} does not run again")


def task_runs(team: TeamServer, run: str) -> list[dict[str, Any]]:
    """The run's tasks, in the order in which they began."""
    of_run = {"flow_runs": {"id": {"any_": [run]}}, "sort": "EXPECTED_START_TIME_ASC"}
    return list(team.ask("task_runs/filter", of_run))


def wait_for_state(team: TeamServer, run: str, wanted: str) -> None:
    wait_until(lambda: state(team, run) == wanted, timeout_s=180)
