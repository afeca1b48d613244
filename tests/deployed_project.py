"""A project whose deployments are on the team's server, and a worker that was started in another directory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow_runs import task_runs
from team_server import TeamServer, nemotron

WORKER = "deployer"


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """What tests do with it."""

    team: TeamServer
    project: Path
    worker_folder: Path

    def start(self, name: str, **parameters: Any) -> str:
        """The id of a new run."""
        deployment = self.team.ask(f"deployments/name/{name}")["id"]
        made = self.team.ask(f"deployments/{deployment}/create_flow_run", {"parameters": parameters})
        return str(made["id"])

    def answer(self, run: str, **form: Any) -> None:
        """Fill in the form of a paused run, as in the UI."""
        assert self.team.ask(f"flow_runs/{run}/resume", {"run_input": form})["status"] == "ACCEPT"

    def message(self, run: str) -> str:
        return str(self.team.ask(f"flow_runs/{run}")["state"]["message"])

    def tasks(self, run: str) -> list[tuple[str, str]]:
        """Stages and the names of their states, in the order in which they began; told later than the run's own."""
        return [(task["name"], task["state_name"]) for task in task_runs(self.team, run)]

    def num_runs(self, name: str) -> int:
        """How many the deployment of that name has, of all flows."""
        return int(self.team.ask("flow_runs/count", {"deployments": {"name": {"any_": [name]}}}))

    def work_dirs(self, stage: str) -> list[Path]:
        return sorted((self.project / ".nemotron" / "work").glob(f"{stage}-*"))

    def process(self, run: str) -> int:
        """The process of the flow run."""
        wanted = f"PREFECT__FLOW_RUN_ID={run}".encode()
        found = [path for path in Path("/proc").glob("[0-9]*") if is_flow(path, wanted)]
        return int(found[0].name)


def is_flow(path: Path, wanted: bytes) -> bool:
    try:
        words = (path / "environ").read_bytes().split(b"\0")
        return wanted in words and b"prefect" in (path / "cmdline").read_bytes()
    except OSError:
        return False


@contextmanager
def deployed_project(team: TeamServer, project: Path, elsewhere: Path, **env: str) -> Iterator[Deployed]:
    """Deploy the project, and have the worker for the block with `env` in its environment."""
    done = nemotron("deploy", cwd=project, **team.env)
    assert done.returncode == 0, done.stderr
    env = {**team.env, "PREFECT_WORKER_QUERY_SECONDS": "1", **env}
    started = nemotron("worker", "--detach", "--name", WORKER, cwd=elsewhere, **env)
    assert started.returncode == 0, started.stderr
    yield Deployed(team=team, project=project, worker_folder=elsewhere / ".nemotron" / "workers" / WORKER)
    nemotron("worker", "stop", "--name", WORKER, cwd=elsewhere, **env)
