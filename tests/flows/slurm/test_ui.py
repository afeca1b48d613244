"""What the UI shows of a run whose jobs are Slurm's."""

from flow_process import wait_until
from lab_project import LabProject


def page_of(lab: LabProject, flow_run: str) -> str:
    """The text of the pretraining's page, empty before there is one."""
    chosen = {"key": {"any_": ["stage-pretrain"]}, "flow_run_id": {"any_": [flow_run]}}
    found = lab.ask("artifacts/filter", {"artifacts": chosen})
    return found[0]["data"] if found else ""


def test_a_job_is_on_the_page_of_its_stage_and_its_states_are_in_the_log_of_its_run(lab: LabProject) -> None:
    process = lab.start(*lab.arguments())
    job = lab.wait_for_job()
    flow_run = lab.flow_run()
    wait_until(lambda: f"\n| {job.job_id} | RUNNING | node" in page_of(lab, flow_run), timeout_s=60)
    page = page_of(lab, flow_run)
    lab.set_state(flow_run, "Cancelling")
    output, _ = process.communicate(timeout=60)
    log = lab.ask("logs/filter", {"logs": {"flow_run_id": {"any_": [flow_run]}}})

    assert f"\nsacct -j {job.job_id} --format=JobID," in page
    assert "/attempts/a1/log.txt\n" in page
    assert page_of(lab, flow_run).startswith("## pretrain: cancelled\n")
    line = f"pretrain: job {job.job_id} RUNNING on node"
    assert output.count(line) == 1
    assert [entry["name"] for entry in log if entry["message"].startswith(line)] == ["nemo_runspec.slurm.monitor"]
