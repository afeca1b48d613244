"""What the server does by itself about runs that are silent, and about cancels that hang."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from deployed_project import Deployed, deployed_project
from flow_runs import state, wait_for_state
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from team_server import TeamServer, program_pid, wait_until
from webhook import running_webhook

from nemotron.deployments import automations
from nemotron.deployments.background import owner
from nemotron.deployments.deploy import DeployOptions, deploy
from nemotron.flows.concurrency_slot import renew

OFF = {"enabled": False}


@pytest.fixture
def deployed(team: TeamServer, tmp_path: Path) -> Iterator[Deployed]:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    (project / "env.toml").touch()
    with deployed_project(team, project, elsewhere, PREFECT_FLOWS_HEARTBEAT_FREQUENCY="30") as found:
        yield found


def redeploy(deployed: Deployed) -> None:
    """Deploy again with what the test has changed."""
    with temporary_settings({PREFECT_API_AUTH_STRING: deployed.team.auth}):
        list(deploy(DeployOptions(project=deployed.project), deployed.team.api_url))


def start_and_pause(deployed: Deployed) -> str:
    """A run that lives and does nothing: it waits for somebody's word."""
    run = deployed.start("nano3/data-prep", data_prep_sft=OFF, data_prep_rl=OFF, approve_before=["data_prep_pretrain"])
    wait_for_state(deployed.team, run, "PAUSED")
    return run


def lose_machine(deployed: Deployed, run: str) -> None:
    """Kill all that could tell the server what has become of the run."""
    supervisor = owner(deployed.worker_folder)
    assert supervisor is not None
    flow, worker = deployed.process(run), program_pid(deployed.worker_folder, "worker")
    for pid in (supervisor.pid, worker, flow):
        os.kill(pid, signal.SIGKILL)


def test_a_slot_that_the_server_does_not_know_is_no_longer_renewed(team: TeamServer) -> None:
    with temporary_settings({PREFECT_API_URL: team.api_url, PREFECT_API_AUTH_STRING: team.auth}):
        renew(uuid4(), threading.Event())


@pytest.mark.slow
def test_a_run_whose_machine_is_gone_is_crashed_and_can_be_retried(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automations, "SILENT_FOR", timedelta(seconds=70))
    redeploy(deployed)
    run = start_and_pause(deployed)

    lose_machine(deployed, run)

    wait_until(lambda: state(deployed.team, run) == "CRASHED", timeout_s=180)
    assert deployed.message(run).startswith("Silent for ")


@pytest.mark.slow
def test_a_run_that_has_lost_its_slot_and_its_server_for_a_while_lives(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automations, "SILENT_FOR", timedelta(seconds=180))
    redeploy(deployed)
    run = start_and_pause(deployed)
    deployed.team.nemotron("down")
    time.sleep(45)
    deployed.team.nemotron("up")
    time.sleep(240)  # Prefect would end the run 225 s after it gave up its slot
    assert state(deployed.team, run) == "PAUSED"
    deployed.answer(run, go_on=True)
    wait_for_state(deployed.team, run, "COMPLETED")


@pytest.mark.slow
def test_somebody_is_told_of_a_cancel_that_hangs(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automations, "HANGS_AFTER", timedelta(seconds=15))
    with running_webhook() as webhook:
        (deployed.project / "env.toml").write_text(f'[notify]\nurl = "{webhook.url}"\n')
        redeploy(deployed)
        run = start_and_pause(deployed)
        lose_machine(deployed, run)

        deployed.team.ask(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})

        wait_until(lambda: any("cancelling for" in text for text in webhook.received), timeout_s=90)
        (deployed.project / "env.toml").write_text("")
        redeploy(deployed)
