"""`--dry-run` shows all that would happen, and nothing does."""

from pathlib import Path

import pytest
from hello_project import HelloProject

ENV_TOML = """\
[wandb]
project = "ours"

[lab]
executor = "slurm"
account = "llm"
nodes = 2
gpus_per_node = 4
time = "00:10:00"
[lab.env_vars]
PRIVATE = "hunter2"

[two]
executor = "local"
nproc_per_node = 2
"""


@pytest.fixture
def project(tmp_path: Path) -> HelloProject:
    folder = tmp_path / "project"
    folder.mkdir()
    return HelloProject.create(folder, env_toml=ENV_TOML)


def test_it_shows_the_config_the_command_and_touches_nothing(project: HelloProject) -> None:
    before = project.files()

    done = project.run("hello", "train", "-c", "loud", "-d", "--", "--shout")

    assert done.returncode == 0, done.stderr
    assert "word: HELLO" in done.stdout
    assert "train.yaml --shout" in done.stdout
    assert "nothing to reuse: it would be run" in done.stdout
    assert project.files() == before


def test_it_says_where_each_overridden_value_comes_from(project: HelloProject) -> None:
    done = project.run("hello", "train", "-c", "loud", "-r", "lab", "-d", "seconds=3", "run.env.time=00:05:00")

    lines = done.stdout.splitlines()
    default = "recipes/hello/config/default.yaml"
    assert f"  word: HELLO  from recipes/hello/config/loud.yaml, instead of hello from {default}" in lines
    assert f"  seconds: 3  from the command line, instead of 0 from {default}" in lines
    assert "  run.env.time: 00:05:00  from the command line, instead of 00:10:00 from profile lab" in lines
    assert "  run.env.account: llm  from profile lab" in lines


def test_secrets_are_shown_nowhere(project: HelloProject) -> None:
    done = project.run("hello", "train", "-r", "lab", "-d", "api_key=hunter2", "run.env.env_vars.MORE=hunter2")

    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert "api_key: '***'" in done.stdout
    assert "export PRIVATE=***" in done.stdout


def test_on_slurm_it_shows_the_job_and_its_resources(project: HelloProject) -> None:
    before = project.files()

    done = project.run("hello", "train", "-r", "lab", "-d")

    assert done.returncode == 0, done.stderr
    assert "#SBATCH --account=llm" in done.stdout
    assert "#SBATCH --time=00:10:00" in done.stdout
    assert "slurm  time=00:10:00 account=llm" in done.stdout
    assert "exec srun " in done.stdout
    assert "sbatch --parsable --job-name=" in done.stdout
    assert project.files() == before


def test_it_names_the_artifact_that_would_be_reused(project: HelloProject) -> None:
    made = project.run("hello", "train")
    run_id = project.newest_run()
    before = project.files()

    done = project.run("hello", "train", "-d")
    changed = project.run("hello", "train", "-d", "word=bye")

    assert made.returncode == 0, made.stderr
    assert f"reuses hello-model:v0, made by run {run_id}: nothing would be run" in done.stdout
    assert "nothing to reuse: it would be run" in changed.stdout
    assert project.files() == before


def test_what_would_be_refused_is_said_after_what_is_known(project: HelloProject) -> None:
    done = project.run("nano3", "sft", "-c", "tiny", "-d")

    assert done.returncode == 2
    assert "train_iters: 300" in done.stdout
    assert done.stderr.startswith("error: sft: run.data = nano3-sft-data:latest: no artifact 'nano3-sft-data' in ")
    assert not project.home.exists()


def test_what_a_later_stage_would_be_refused_for_is_said_too(project: HelloProject) -> None:
    done = project.run("nano3", "pipe", "-c", "tiny", "-d", "sft.run.model=nope:v1")

    assert done.returncode == 2
    assert "'nope'" in done.stderr


def test_a_whole_pipeline_says_of_each_stage_what_it_waits_for(project: HelloProject) -> None:
    done = project.run("nano3", "pipe", "-c", "tiny", "-d", "sft.train.train_iters=7")

    assert done.returncode == 0, done.stderr
    assert "train.train_iters: 7  from the command line, instead of 300 from config/tiny.yaml" in done.stdout
    assert "inputs are made by: data_prep_sft, pretrain" in done.stdout
    assert not project.home.exists()
