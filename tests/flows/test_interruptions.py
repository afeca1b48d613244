"""What becomes of a stage when its flow is interrupted or killed, and of the next start: real processes and signals."""

import os
import signal

import pytest
from flow_process import Project, interrupt, wait_until

LONG = (
    "--stages",
    "data_prep_pretrain,pretrain",
    "pretrain.train.train_iters=40",
    "pretrain.checkpoint.save_interval=4",
)


def checkpoint_steps(project: Project) -> list[int]:
    folder = project.work_dir("pretrain") / "checkpoints"
    return sorted(int(path.name[5:]) for path in folder.glob("iter_*") if not path.suffix)


def test_ctrl_c_ends_the_stage_and_says_how_to_go_on(project: Project) -> None:
    process = project.start(*LONG)
    project.wait_for_step("pretrain", 6)
    interrupt(process, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output.strip().splitlines()[-1] == "interrupted: the same command continues from the last checkpoint"
    assert "Traceback" not in output
    wait_until(lambda: not project.processes(), timeout_s=10)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_the_stage_ends_with_a_killed_flow_and_the_next_start_goes_on(project: Project, signum: signal.Signals) -> None:
    process = project.start(*LONG)
    project.wait_for_step("pretrain", 6)
    process.send_signal(signum)  # the flow alone: its stage's processes are told by the kernel
    process.communicate(timeout=60)
    wait_until(lambda: not project.processes(), timeout_s=30)
    saved = checkpoint_steps(project)[-1]
    log = project.work_dir("pretrain") / "log.txt"

    done = project.run(*LONG)

    assert done.returncode == 0, done.stderr
    assert f"resumed from step {saved}" in log.read_text()
    assert project.steps("pretrain") == list(range(1, 41))
    assert "20" in done.stdout.split("data_prep_pretrain")[1].split("\n")[0].split("│")[4]  # reused from an earlier run


def test_a_killed_training_process_is_started_again_from_its_checkpoint(project: Project) -> None:
    process = project.start(*LONG)
    project.wait_for_step("pretrain", 6)
    os.kill(project.script_process(), signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "resumed from step" in (project.work_dir("pretrain") / "log.txt").read_text()
    assert project.steps("pretrain") == list(range(1, 41))
