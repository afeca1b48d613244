"""Where a Prefect server is configured, a recipe command is a flow run that its UI shows and cancels."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hello_project import HelloProject, wait_until
from prefect_server import ask, running_server


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_server(tmp_path_factory.mktemp("prefect")) as url:
        yield url


@pytest.fixture
def project(tmp_path: Path, api: str) -> HelloProject:
    folder = tmp_path / "project"
    folder.mkdir()
    return HelloProject.create(folder, PREFECT_API_URL=api)


def flow_runs(api: str, run_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(api, "flow_runs/filter", {"flow_runs": {"name": {"like_": run_id}}})
    return found


def test_a_stage_is_a_flow_run_that_says_what_ran(api: str, project: HelloProject) -> None:
    done = project.run("hello", "train", "-c", "loud", "seconds=1")

    assert done.returncode == 0, done.stderr
    assert "hello-model:v0" in done.stdout
    (run,) = flow_runs(api, project.newest_run())
    assert run["name"] == f"hello-train-loud-{project.newest_run()}"
    assert run["state"]["type"] == "COMPLETED"


def test_a_failed_stage_is_a_failed_flow_run_with_the_code_of_the_script(api: str, project: HelloProject) -> None:
    script = project.folder / "recipes" / "hello" / "train.py"
    script.write_text(script.read_text().replace('if config["code"]:', 'if config["code"]:\n    print("error: no")', 1))

    done = project.run("hello", "train", "code=4")

    assert (done.returncode, done.stderr.splitlines()[-1]) == (4, "error: train: no")
    (run,) = flow_runs(api, project.newest_run())
    assert run["state"]["type"] == "FAILED"


def test_a_cancel_on_the_server_ends_the_stage(api: str, project: HelloProject) -> None:
    process = project.start("hello", "train", "seconds=100")
    wait_until(lambda: list(project.home.glob("work/train-*/log.txt")) != [])
    (run,) = flow_runs(api, project.newest_run())

    ask(api, f"flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}, "force": True})
    output, _ = process.communicate(timeout=60)

    assert process.returncode == 130, output
    assert "cancelled: " in output
    (run,) = flow_runs(api, project.newest_run())
    assert run["state"]["type"] == "CANCELLED"
    assert json.loads(project.run("runs", "list", "--json").stdout)[0]["state"] == "cancelled"


def test_nemotron_runs_cancel_ends_the_flow_run_too(api: str, project: HelloProject) -> None:
    (project.folder / "env.toml").write_text('[here]\nexecutor = "local"\n')
    run_id = project.run("hello", "train", "-b", "here", "seconds=100").stdout.strip()

    cancelled = project.run("runs", "cancel", run_id)

    assert cancelled.stdout == f"run {run_id}: cancelled\n"
    (run,) = flow_runs(api, run_id)
    assert run["state"]["type"] == "CANCELLED"
