"""What becomes of a Slurm job when its flow run is cancelled, and when its processes are told to end or killed."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from flow_process import interrupt, wait_until
from lab_project import LabProject, Terminal

logger = logging.getLogger(__name__)

GONE_WITHIN_S = 15.0
CTRL_C = "\x03"
Cancel = Callable[[LabProject, str], None]
ORCHESTRATORS = {
    "serve": """
from nemotron.flows.nano3 import nano3

if __name__ == "__main__":  # each flow run is a process that imports this file
    nano3.serve(name="serve")
""",
    "worker": """
import os, sys
from pathlib import Path

import nemotron.flows
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate

with get_client(sync_client=True) as client:
    client.create_work_pool(WorkPoolCreate(name="lab", type="process"), overwrite=True)
folder = str(Path(nemotron.flows.__path__[0]).resolve())
deployed = flow.from_source(source=folder, entrypoint="nano3.py:nano3")
deployed.deploy(name="worker", work_pool_name="lab", print_next_steps=False)
os.execv(sys.executable, [sys.executable, "-m", "prefect", "worker", "start", "--pool", "lab"])
""",
}


def last_line(output: str) -> str:
    return output.strip().splitlines()[-1]


def assert_readable(output: str) -> None:
    assert "Traceback" not in output
    assert " | " not in output, output  # Prefect's own log lines


@pytest.fixture
def occupied(lab: LabProject) -> None:
    """All CPUs are taken by somebody else."""
    for _ in range(4):
        lab.cluster.ask("sbatch", "--parsable", "--exclusive", "-J", "busy", "-o", "/dev/null", "--wrap", "sleep 300")
    wait_until(lambda: [job.split()[1] for job in lab.cluster.jobs(name="busy")][-4:] == ["RUNNING"] * 4, timeout_s=20)


def cancel_a_direct_run(lab: LabProject, job_state: str) -> None:
    process = lab.start(*lab.arguments())
    lab.wait_for_job(job_state)
    flow_run = lab.flow_run()

    lab.set_state(flow_run, "Cancelling")
    seconds = lab.seconds_to_gone()
    output, _ = process.communicate(timeout=60)

    logger.info("gone after %.1f s", seconds)
    assert seconds <= GONE_WITHIN_S
    assert process.returncode == 130
    assert last_line(output) == "cancelled: pretrain: the run was cancelled; its job is gone"
    assert_readable(output)
    assert lab.state_of(flow_run) == "Cancelled"
    assert len(lab.jobs()) == 1


def test_a_cancel_of_a_direct_run_ends_its_running_job(lab: LabProject) -> None:
    cancel_a_direct_run(lab, "RUNNING")


@pytest.mark.slow
@pytest.mark.usefixtures("occupied")
def test_a_cancel_of_a_direct_run_ends_its_queued_job(lab: LabProject) -> None:
    cancel_a_direct_run(lab, "PENDING")


@pytest.mark.slow
def test_a_run_that_is_set_to_cancelled_at_once_stays_so(lab: LabProject) -> None:
    process = lab.start(*lab.arguments())
    lab.wait_for_job()
    flow_run = lab.flow_run()
    lab.set_state(flow_run, "Cancelled")
    assert lab.seconds_to_gone() <= GONE_WITHIN_S
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert lab.state_of(flow_run) == "Cancelled"


def start_orchestrator(lab: LabProject, kind: str) -> subprocess.Popen[str]:
    """A process that runs the flow runs of the deployment `kind`."""
    script = lab.folder / f"{kind}.py"
    script.write_text(ORCHESTRATORS[kind])
    return lab.start_program(
        str(script),
        NEMOTRON_ENV_FILE=str(lab.folder / "env.toml"),
        PREFECT_RUNNER_POLL_FREQUENCY="1",
        PREFECT_WORKER_QUERY_SECONDS="1",
    )


def by_api(lab: LabProject, flow_run: str) -> None:
    lab.set_state(flow_run, "Cancelling")


def by_command(lab: LabProject, flow_run: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "flow-run", "cancel", flow_run],
        env={**os.environ, **lab.env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


DEPLOYED = [
    ("serve", "RUNNING", by_api),
    ("worker", "PENDING", by_command),
    pytest.param("serve", "PENDING", by_command, marks=pytest.mark.slow),
    pytest.param("worker", "RUNNING", by_api, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("kind", "job_state", "cancel"), DEPLOYED)
def test_a_cancel_of_a_deployed_run_ends_its_job(
    lab: LabProject, kind: str, job_state: str, cancel: Cancel, request: pytest.FixtureRequest
) -> None:
    if job_state == "PENDING":
        request.getfixturevalue("occupied")
    start_orchestrator(lab, kind)
    flow_run = lab.schedule(kind)
    lab.wait_for_job(job_state)

    cancel(lab, flow_run)
    seconds = lab.seconds_to_gone()
    logger.info("gone after %.1f s", seconds)
    assert seconds <= GONE_WITHIN_S
    wait_until(lambda: lab.state_of(flow_run) == "Cancelled", timeout_s=60)
    assert len(lab.jobs()) == 1
    wait_until(lambda: lab.task_states(flow_run).get("pretrain") == "Cancelled", timeout_s=30)


def wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    """Return when it has printed that."""
    output = process.stdout
    assert output is not None
    wait_until(lambda: text in output.readline(), timeout_s=180)


def test_a_job_outlives_its_orchestrators(lab: LabProject) -> None:
    """SIGTERM, then the same command, then SIGKILL, then --attach: one job does it all."""
    steps = 200  # it must still train when the third has attached
    first = lab.start(*lab.arguments(steps=steps))
    job = lab.wait_for_job()
    first.terminate()
    said, _ = first.communicate(timeout=30)
    assert first.returncode == -signal.SIGTERM
    assert_readable(said)
    second = lab.start(*lab.arguments(steps=steps))
    wait_for_line(second, f"pretrain: attached to {job.name}")
    second.kill()
    second.communicate(timeout=30)
    assert lab.states() == ["RUNNING"]

    done = lab.run("--attach", lab.newest_run())

    assert done.returncode == 0, done.stderr
    assert f"pretrain: attached to {job.name}" in done.stderr
    assert [found.job_id for found in lab.jobs()] == [job.job_id]


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_the_same_command_attaches_to_the_job_of_a_run_that_was_told_to_end(
    lab: LabProject, signum: signal.Signals
) -> None:
    process = lab.start(*lab.arguments(steps=16))
    job = lab.wait_for_job()
    process.send_signal(signum)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == -signum
    assert_readable(output)

    done = lab.run(*lab.arguments(steps=16))

    assert done.returncode == 0, done.stderr
    assert f"pretrain: attached to {job.name}" in done.stderr
    assert [found.job_id for found in lab.jobs()] == [job.job_id]


@pytest.mark.slow
def test_attach_takes_up_a_killed_run_with_its_job(lab: LabProject) -> None:
    process = lab.start(*lab.arguments(steps=16))
    job = lab.wait_for_job()
    process.kill()
    process.communicate(timeout=30)

    done = lab.run("--attach", lab.newest_run())

    assert done.returncode == 0, done.stderr
    assert f"pretrain: attached to {job.name}" in done.stderr
    assert [found.job_id for found in lab.jobs()] == [job.job_id]


def test_a_detached_run_is_followed_to_its_end(lab: LabProject) -> None:
    left = lab.run("--detach", *lab.arguments(steps=8))
    run_id = lab.newest_run()
    followed = lab.run("--attach", run_id)
    log = (lab.folder / ".nemotron" / "runs" / f"{run_id}.log").read_text()

    assert left.returncode == 0, left.stderr
    assert left.stdout == f"run {run_id} goes on in the background; follow it with --attach {run_id}\n"
    assert followed.returncode == 0, followed.stderr
    assert followed.stdout == log
    assert f"nano3 tiny  {run_id}" in log  # the summary
    assert len(lab.jobs()) == 1


@pytest.mark.slow
def test_who_follows_a_run_that_fails_gets_its_exit_code(lab: LabProject) -> None:
    lab.run("--detach", *lab.arguments())
    job = lab.wait_for_job()
    follower = lab.start("--attach", lab.newest_run())
    lab.cluster.ask("scancel", str(job.job_id))
    output, _ = follower.communicate(timeout=120)
    assert follower.returncode == 1, output
    assert "ended as CANCELLED" in output


@pytest.mark.slow
def test_who_stops_following_leaves_the_run_alone(lab: LabProject) -> None:
    lab.run("--detach", *lab.arguments())
    lab.wait_for_job()
    run_id = lab.newest_run()
    follower = lab.start("--attach", run_id)
    wait_for_line(follower, "RUNNING")
    interrupt(follower, signal.SIGINT)
    output, _ = follower.communicate(timeout=60)
    assert follower.returncode == 130
    assert last_line(output) == (
        f"interrupted: run {run_id} goes on in the background; follow it with --attach {run_id}"
    )
    assert lab.is_driven(run_id)
    assert lab.states() == ["RUNNING"]


def test_ctrl_c_without_a_terminal_ends_the_job(lab: LabProject) -> None:
    process = lab.start(*lab.arguments())
    lab.wait_for_job()
    interrupt(process, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert last_line(output) == "interrupted: the same command continues from the last checkpoint"
    assert_readable(output)
    assert not lab.live()


def test_ctrl_c_on_a_terminal_offers_to_detach(lab: LabProject) -> None:
    terminal = Terminal.start(lab, lab.arguments())
    job = lab.wait_for_job()
    terminal.type(CTRL_C)
    terminal.see("[d]etach")
    terminal.type("d\n")
    assert terminal.end() == 0, terminal.shown
    run_id = lab.newest_run()
    assert_readable(terminal.shown)
    assert last_line(terminal.shown).endswith(
        f"run {run_id} goes on in the background; follow it with --attach {run_id}"
    )
    assert lab.is_driven(run_id)
    assert [(found.job_id, found.state) for found in lab.jobs()] == [(job.job_id, "RUNNING")]
    log = lab.folder / ".nemotron" / "runs" / f"{run_id}.log"
    wait_until(lambda: "attached to" in log.read_text(), timeout_s=180)


def test_a_second_ctrl_c_ends_the_job(lab: LabProject) -> None:
    terminal = Terminal.start(lab, lab.arguments())
    lab.wait_for_job()
    terminal.type(CTRL_C)
    terminal.see("[d]etach")
    terminal.type(CTRL_C)
    assert terminal.end() == 130, terminal.shown
    assert_readable(terminal.shown)
    assert last_line(terminal.shown).endswith("interrupted: the same command continues from the last checkpoint")
    assert not lab.live()


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_retry_of_a_deployed_run_attaches_to_its_job(lab: LabProject, signum: signal.Signals) -> None:
    """SIGTERM reaches the flow's process alone; SIGKILL the worker, too, which is started again."""
    worker = start_orchestrator(lab, "worker")
    flow_run = lab.schedule("worker", steps=100)
    job = lab.wait_for_job()
    if signum == signal.SIGKILL:
        worker.kill()
        worker.wait(timeout=10)
    for pid in lab.flow_processes(flow_run):
        os.kill(pid, signum)
    wait_until(lambda: not lab.flow_processes(flow_run), timeout_s=30)
    assert lab.states() == ["RUNNING"]

    if signum == signal.SIGKILL:
        lab.force_state(flow_run, "Crashed")  # what nobody is left to say
        start_orchestrator(lab, "worker")
    wait_until(lambda: lab.state_of(flow_run) == "Crashed", timeout_s=30)
    assert lab.states() == ["RUNNING"]
    lab.retry(flow_run)

    wait_until(lambda: lab.state_of(flow_run) == "Completed", timeout_s=120)
    assert [found.job_id for found in lab.jobs()] == [job.job_id]
