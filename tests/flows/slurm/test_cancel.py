"""What becomes of a Slurm job when its flow run is cancelled, and when its processes are told to end or killed."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flow_process import interrupt, wait_until
from lab_project import LabProject, Terminal

GONE_WITHIN_S = 15.0
ORCHESTRATORS = {
    "serve": """
from nemotron.flows.nano3 import nano3
nano3.serve(name="serve")
""",
    "worker": """
import sys
from pathlib import Path
import nemotron.flows
from prefect.cli.root import app
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect import flow
with get_client(sync_client=True) as client:
    client.create_work_pool(WorkPoolCreate(name="lab", type="process"), overwrite=True)
folder = str(Path(nemotron.flows.__path__[0]).resolve())
flow.from_source(source=folder, entrypoint="nano3.py:nano3").deploy(name="worker", work_pool_name="lab", print_next_steps=False)
sys.argv[1:] = ["worker", "start", "--pool", "lab", "--type", "process"]
app()
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

    print(f"direct, {job_state}: gone after {seconds:.1f} s")
    assert seconds <= GONE_WITHIN_S
    assert process.returncode == 130
    assert last_line(output) == "cancelled: pretrain: the run was cancelled; its job is gone"
    assert_readable(output)
    assert lab.state_of(flow_run) == "Cancelled"
    assert len(lab.jobs()) == 1


def test_a_cancel_of_a_direct_run_ends_its_running_job(lab: LabProject) -> None:
    cancel_a_direct_run(lab, "RUNNING")


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


@pytest.mark.parametrize("kind", ["serve", "worker"])
def test_a_cancel_of_a_deployed_run_ends_its_job(lab: LabProject, kind: str) -> None:
    start_orchestrator(lab, kind)
    flow_run = lab.schedule(kind)
    lab.wait_for_job()

    lab.set_state(flow_run, "Cancelling")
    seconds = lab.seconds_to_gone()
    print(f"{kind}: gone after {seconds:.1f} s")
    assert seconds <= GONE_WITHIN_S
    wait_until(lambda: lab.state_of(flow_run) == "Cancelled", timeout_s=60)
    assert len(lab.jobs()) == 1
