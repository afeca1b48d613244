"""The reaper on real jobs and a real Prefect server, with nobody else there."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cluster.cluster import Cluster
from lab_project import LIVE, PROFILE, LabProject
from prefect_server import ask

from nemo_runspec.slurm.client import SlurmClient
from nemo_runspec.slurm.hosts import LocalHost
from nemo_runspec.slurm.ledger import Attempt, open_attempt
from nemotron.tasks.job_index import add_follower, remember

DEAD = "http://127.0.0.1:9/api"


@dataclass(frozen=True, kw_only=True)
class Orphans:
    """A project whose jobs nobody watches."""

    folder: Path
    cluster: Cluster
    api: str

    def submit(self, run_id: str) -> Attempt:
        """An attempt whose job is in the queue."""
        attempt = open_attempt(
            self.folder / "work", number=1, stage="sft", run_id=run_id, profile="lab", fingerprint="0" * 64
        )
        script = attempt.folder / "job.sh"
        script.write_text("#!/bin/sh\nsleep 300\n")
        options = [f"--job-name={attempt.intent.key}", f"--output={attempt.log_path}"]
        attempt.record_job(SlurmClient(host=LocalHost()).submit(script, options))
        remember(attempt, self.folder / ".nemotron")
        return attempt

    def flow_run(self, state: str, *, name: str = "some") -> str:
        """The id of a flow run in that state."""
        flow = ask(self.api, "flows/", {"name": "nano3"})["id"]
        parameters = {"project_dir": str(self.folder)}
        new = {"flow_id": flow, "name": name, "parameters": parameters, "state": {"type": "RUNNING"}}
        made = ask(self.api, "flow_runs/", new)
        self.end(made["id"], state)
        return str(made["id"])

    def end(self, flow_run: str, state: str) -> None:
        """Have the flow run in that state."""
        change = {"state": {"type": state.upper(), "name": state}, "force": True}
        ask(self.api, f"flow_runs/{flow_run}/set_state", change)

    def task_run(self, flow_run: str, name: str) -> str:
        """The id of a task that runs."""
        new = {"flow_run_id": flow_run, "name": name, "task_key": name, "dynamic_key": uuid.uuid4().hex}
        return str(ask(self.api, "task_runs/", new | {"state": {"type": "RUNNING"}})["id"])

    def task_state(self, task_run: str) -> str:
        return str(ask(self.api, f"task_runs/{task_run}")["state"]["name"])

    def reap(self, *words: str, api: str | None = None) -> str:
        """What the reaper says."""
        done = subprocess.run(
            [sys.executable, "-m", "nemotron.tasks.reaper", "--project", str(self.folder), *words],
            cwd="/",
            env={**os.environ, "PREFECT_API_URL": api or self.api, "PREFECT_HOME": str(self.folder / "prefect")},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr.strip()

    def is_live(self, attempt: Attempt) -> bool:
        return any(job.split()[1] in LIVE for job in self.cluster.jobs(name=attempt.intent.key))


@pytest.fixture
def orphans(tmp_path: Path, slurm: Cluster, prefect_api: str) -> Orphans:
    (tmp_path / "env.toml").write_text(PROFILE)
    return Orphans(folder=tmp_path, cluster=slurm, api=prefect_api)


def test_the_job_of_a_cancelled_flow_run_is_ended(orphans: Orphans) -> None:
    attempt = orphans.submit(orphans.flow_run("Cancelled"))
    assert orphans.reap().endswith("1 job ended")
    assert not orphans.is_live(attempt)
    assert orphans.reap() == "0 jobs ended"


def test_the_job_of_a_cancelled_command_is_ended(orphans: Orphans) -> None:
    run_id = f"20260101-000000-{uuid.uuid4().hex[:8]}"
    orphans.flow_run("Cancelling", name=f"nano3-tiny-{run_id}")
    attempt = orphans.submit(run_id)
    assert orphans.reap().endswith("1 job ended")
    assert not orphans.is_live(attempt)


def test_a_cancel_that_was_cut_short_is_finished(orphans: Orphans) -> None:
    attempt = orphans.submit("20260101-000000-00000000")
    attempt.record_cancel("Ctrl-C")
    assert orphans.reap(api=DEAD).endswith("1 job ended")
    assert not orphans.is_live(attempt)


def crashed(orphans: Orphans) -> Attempt:
    return orphans.submit(orphans.flow_run("Crashed"))


def unknown(orphans: Orphans) -> Attempt:
    return orphans.submit(str(uuid.uuid4()))


def followed_by_another(orphans: Orphans) -> Attempt:
    attempt = orphans.submit(orphans.flow_run("Cancelled"))
    add_follower(attempt, orphans.flow_run("Running"))
    return attempt


def started_again(orphans: Orphans) -> Attempt:
    run_id = f"20260101-000000-{uuid.uuid4().hex[:8]}"
    orphans.flow_run("Cancelled", name=f"nano3-tiny-{run_id}")
    orphans.flow_run("Running", name=f"nano3-tiny-{run_id}")
    return orphans.submit(run_id)


@pytest.mark.parametrize("case", [crashed, unknown, followed_by_another, started_again])
def test_a_job_that_somebody_may_want_is_left_alone(orphans: Orphans, case: Callable[[Orphans], Attempt]) -> None:
    attempt = case(orphans)
    assert orphans.reap() == "0 jobs ended"
    assert orphans.is_live(attempt)


def test_a_server_that_does_not_answer_cancels_nothing(orphans: Orphans) -> None:
    attempt = orphans.submit(orphans.flow_run("Cancelled"))
    said = orphans.reap(api=DEAD)
    assert said.startswith("Prefect does not answer: ")
    assert said.count("\n") == 2
    assert orphans.is_live(attempt)


@pytest.mark.parametrize("state", ["Completed", "Failed", "Crashed", "Cancelled"])
def test_the_last_task_of_a_run_that_is_over_ended_as_the_run_and_those_before_it_well(
    orphans: Orphans, state: str
) -> None:
    run = orphans.flow_run("Running")
    first, last = orphans.task_run(run, "pretrain"), orphans.task_run(run, "sft")
    orphans.end(run, state)
    assert orphans.reap() == "0 jobs ended"
    assert orphans.task_state(last) == "Running"  # it may still be heard of
    assert f"sft of some: {state}" in orphans.reap("--grace-s", "0")
    assert [orphans.task_state(task) for task in (first, last)] == ["Completed", state]


def test_tasks_are_found_by_the_folder_of_their_project(orphans: Orphans, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(orphans.folder)
    run, other = (replace(orphans, folder=tmp_path / name).flow_run("Running") for name in ("link", "other"))
    tasks = [orphans.task_run(flow_run, "sft") for flow_run in (run, other)]
    orphans.end(run, "Completed")
    orphans.end(other, "Completed")
    orphans.reap("--grace-s", "0")
    assert [orphans.task_state(task) for task in tasks] == ["Completed", "Running"]


@pytest.mark.slow
def test_a_run_cancelled_while_nobody_watched_loses_its_job(lab: LabProject) -> None:
    process = lab.start(*lab.arguments())
    lab.wait_for_job()
    flow_run = lab.flow_run()
    process.kill()
    process.communicate(timeout=30)
    lab.set_state(flow_run, "Cancelling")
    assert lab.states() == ["RUNNING"]

    done = subprocess.run(
        [sys.executable, "-m", "nemotron.tasks.reaper"],
        cwd=lab.folder,
        env={**os.environ, **lab.env},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert done.stderr.strip().endswith("1 job ended")
    assert not lab.live()
