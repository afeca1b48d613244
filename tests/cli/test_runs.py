"""`nemotron runs`: what ran here, how it went, and taking it up again; on this machine."""

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hello_project import HelloProject, wait_until

from nemotron.flows.run_control import wait_until_started


@pytest.fixture
def project(tmp_path: Path) -> Iterator[HelloProject]:
    folder = tmp_path / "project"
    folder.mkdir()
    project = HelloProject.create(folder, env_toml='[here]\nexecutor = "local"\n')
    yield project
    for path in (project.home / "runs").glob("*.json"):
        project.run("runs", "cancel", path.stem)


def start_in_background(project: HelloProject, *overrides: str) -> str:
    """Start a run with `--batch`; its id."""
    done = project.run("hello", "train", "--batch", "here", *overrides)
    assert done.returncode == 0, done.stderr
    assert "follow it with nemotron runs attach" in done.stderr
    return done.stdout.strip()


def state(project: HelloProject, run_id: str) -> str:
    record: dict[str, str] = json.loads(project.run("runs", "show", run_id, "--json").stdout)
    return record["state"]


def test_a_command_shows_the_log_and_ends_with_the_code_of_the_script(project: HelloProject) -> None:
    good = project.run("hello", "train", "seconds=1", "--", "--shout")
    bad = project.run("hello", "train", "seconds=1", "code=7", "-r", "here")

    assert (good.returncode, bad.returncode) == (0, 7)
    assert "train | hello! 0\n" in good.stderr
    assert "error: train exited with code 7" in bad.stderr


def test_arguments_for_the_script_make_another_artifact(project: HelloProject) -> None:
    project.run("hello", "train", "seconds=1")
    shouted = project.run("hello", "train", "seconds=1", "--", "--shout")
    again = project.run("hello", "train", "seconds=1", "--", "--shout")

    assert "hello-model:v1" in shouted.stdout
    assert "hello-model:v1" in again.stdout


def test_refresh_runs_what_is_there(project: HelloProject) -> None:
    project.run("hello", "train")
    again = project.run("hello", "train")
    refreshed = project.run("hello", "train", "--refresh")

    assert "hello-model:v0" in again.stdout
    assert "hello-model:v1" in refreshed.stdout


def test_the_list_tells_what_ran_and_how_it_went(project: HelloProject) -> None:
    project.run("hello", "train")
    project.run("hello", "train", "code=3", "-c", "loud")

    failed, done = json.loads(project.run("runs", "list", "--json").stdout)
    table = project.run("runs", "list").stdout

    assert (done["what"], done["state"], done["exit_code"]) == ("hello/train", "done", 0)
    assert (failed["state"], failed["exit_code"], failed["config"]) == ("failed", 3, "loud")
    assert failed["overrides"] == ["code=3"]
    assert "failed (3)" in table


def test_without_runs_the_list_says_how_to_start_one(project: HelloProject) -> None:
    done = project.run("runs", "list")

    assert done.returncode == 0
    assert "start one, as nemotron nano3 sft -c tiny" in done.stderr


def test_show_leads_to_the_logs_of_the_newest_run(project: HelloProject) -> None:
    project.run("hello", "train", "seconds=1")

    shown = project.run("runs", "show")
    printed = project.run("runs", "logs")

    log = shown.stdout.rpartition("log: ")[2].strip()
    assert "hello 0" in Path(log).read_text()
    assert "train | hello 0\n" in printed.stdout


def test_a_batch_run_gives_its_id_and_can_be_followed_from_anywhere(project: HelloProject) -> None:
    run_id = start_in_background(project, "seconds=4")

    followed = project.run("runs", "logs", "-f", run_id)
    attached = project.run("runs", "attach", run_id)

    assert followed.stdout.splitlines() == [f"train | hello {second}" for second in range(4)]
    assert state(project, run_id) == "done"
    assert attached.returncode in (0, 2)  # it may have ended before


def test_attach_ends_as_the_run_does(project: HelloProject) -> None:
    run_id = start_in_background(project, "seconds=10", "code=9")

    attached = project.run("runs", "attach", run_id)

    assert attached.returncode == 9, attached.stderr


def test_a_batch_run_that_fails_at_once_is_told_in_its_log(project: HelloProject) -> None:
    head = '# /// script\n# [tool.runspec]\n# name = "hello/train"\n# [tool.runspec.run]\n# launch = "direct"\n# ///\n'
    (project.folder / "recipes" / "hello" / "train.py").write_text(f"{head}1/0\n")
    done = project.run("hello", "train", "-b", "here")

    wait_until(lambda: state(project, done.stdout.strip()) == "failed")
    assert "ZeroDivisionError" in project.run("runs", "logs").stdout


def test_a_cancelled_run_is_gone_and_can_be_taken_up_again(project: HelloProject) -> None:
    run_id = start_in_background(project, "seconds=10")

    cancelled = project.run("runs", "cancel", run_id)
    twice = project.run("runs", "cancel", run_id)
    attached = project.run("runs", "attach", run_id)
    retried = project.run("runs", "retry", run_id)

    assert cancelled.stdout == f"run {run_id}: cancelled\n"
    assert twice.returncode == attached.returncode == 2
    assert f"nemotron runs retry {run_id}" in attached.stderr
    assert retried.returncode == 0, retried.stderr
    assert state(project, run_id) == "done"


def test_a_run_whose_process_was_killed_is_interrupted_and_attach_takes_it_up(project: HelloProject) -> None:
    run_id = start_in_background(project, "seconds=5")
    driver = json.loads((project.home / "runs" / f"{run_id}.driver").read_text())
    os.kill(driver["pid"], signal.SIGKILL)
    wait_until(lambda: state(project, run_id) == "interrupted")

    attached = project.run("runs", "attach", run_id)

    assert attached.returncode == 0, attached.stderr
    assert state(project, run_id) == "done"


def test_retry_leaves_a_run_alone_that_goes_on(project: HelloProject) -> None:
    run_id = start_in_background(project, "seconds=20")

    done = project.run("runs", "retry", run_id)

    assert done.returncode == 2
    assert f"run {run_id} goes on" in done.stderr
    assert state(project, run_id) == "running"


def test_a_relative_path_is_that_of_where_the_command_was_given(project: HelloProject) -> None:
    inner = project.folder / "inner"
    inner.mkdir()
    (inner / "mine.yaml").write_text("word: inner\nseconds: 1\ncode: 0\n")

    done = project.run("hello", "train", "-b", "here", "-c", "./mine.yaml", cwd=inner)
    followed = project.run("runs", "logs", "-f", done.stdout.strip())

    assert followed.stdout == "train | inner 0\n"


def test_part_of_an_id_is_enough_where_it_is_clear(project: HelloProject) -> None:
    project.run("hello", "train")
    run_id = project.newest_run()

    assert f"run          {run_id}" in project.run("runs", "show", run_id[-8:]).stdout


def test_a_secret_override_is_shown_to_nobody(project: HelloProject) -> None:
    project.run("hello", "train", "api_key=hunter2", "run.env.env_vars.LOGIN=hunter2")
    run_id = project.newest_run()

    shown = project.run("runs", "show", run_id).stdout + project.run("runs", "list", "--json").stdout

    assert "hunter2" not in shown
    assert "api_key=***" in shown
    assert (project.home / "runs" / f"{run_id}.json").stat().st_mode & 0o077 == 0


def test_a_run_is_taken_up_in_the_directory_where_it_was_started(project: HelloProject) -> None:
    inner = project.folder / "inner"
    inner.mkdir()
    (inner / "mine.yaml").write_text("word: inner\nseconds: 1\ncode: 3\n")
    project.run("hello", "train", "-c", "./mine.yaml", cwd=inner)

    retried = project.run("runs", "retry")

    assert retried.returncode == 3
    assert "train | inner 0" in retried.stderr


def test_a_refreshed_run_that_is_taken_up_keeps_what_it_made(project: HelloProject) -> None:
    project.run("hello", "train")
    refreshed = project.run("hello", "train", "--refresh")

    retried = project.run("runs", "retry")

    assert "hello-model:v1" in refreshed.stdout
    assert "hello-model:v1" in retried.stdout


def test_a_stage_goes_on_when_nobody_reads_its_log_any_more(project: HelloProject) -> None:
    command = shlex.join(project.command("hello", "train", "seconds=4", "code=0"))

    subprocess.run(
        ["bash", "-c", f"{command} 2>&1 | head -1"],
        cwd=project.folder,
        env=project.environment(),
        capture_output=True,
        check=True,
    )

    wait_until(lambda: "hello-model" in project.run("artifacts", "list").stdout)


def test_a_batch_run_whose_process_is_gone_before_it_did_anything_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "r1.lock").touch()
    (runs / "r1.log").write_text("Killed\n")

    assert wait_until_started(tmp_path, "r1") == 1
    assert "Killed" in capsys.readouterr().err
