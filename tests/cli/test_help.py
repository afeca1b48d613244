"""What `--help` shows, and what it takes to show it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hello_project import HelloProject

GOLDEN = Path(__file__).parent / "golden"
ENV_TOML = """\
[my-cluster]
executor = "slurm"
account = "llm"
partition = "batch"
nodes = 4
gpus_per_node = 8

[two]
executor = "local"
nproc_per_node = 2
"""
HEAVY = ("prefect", "nemo_run", "torch", "ray", "wandb", "submitit", "omegaconf", "pydantic", "yaml", "megatron")
PROGRAM = """
import json, sys
from nemotron.cli.app import main
code = main(sys.argv[1:])
print("MODULES", json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


@pytest.fixture
def project(tmp_path: Path) -> HelloProject:
    folder = tmp_path / "project"
    folder.mkdir()
    return HelloProject.create(folder, env_toml=ENV_TOML, COLUMNS="100")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("root", ()),
        ("nano3", ("nano3",)),
        ("sft", ("nano3", "sft")),
        ("data_prep", ("nano3", "data", "prep", "pretrain")),
        ("pipe", ("nano3", "pipe")),
        ("hello", ("hello", "train")),
        ("runs", ("runs",)),
        ("cancel", ("runs", "cancel")),
        ("env", ("env",)),
        ("artifacts", ("artifacts",)),
    ],
)
def test_the_help_is_what_is_documented(project: HelloProject, name: str, words: tuple[str, ...]) -> None:
    done = project.run(*words, "--help")

    assert done.returncode == 0, done.stderr
    shown = "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("REFRESH_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown)
    assert shown == path.read_text(), "if it is meant to be so: REFRESH_GOLDEN=1 pytest tests/cli/test_help.py"


def imported_by(project: HelloProject, *words: str) -> set[str]:
    """The top-level modules that `nemotron WORDS` has imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=project.folder,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stdout.rpartition("MODULES")[2])
    assert code == 0
    return set(modules)


@pytest.mark.parametrize("words", [("--help",), ("nano3", "sft", "--help"), ("nano3", "--help"), ("runs", "--help")])
def test_a_help_text_imports_nothing_heavy(project: HelloProject, words: tuple[str, ...]) -> None:
    assert not set(HEAVY) & imported_by(project, *words)


def test_a_dry_run_imports_neither_prefect_nor_torch(project: HelloProject) -> None:
    imported = imported_by(project, "hello", "train", "--dry-run")

    assert not {"prefect", "nemo_run", "torch", "ray", "wandb"} & imported


def test_help_comes_wherever_it_is_asked_for_but_behind_dashes(project: HelloProject) -> None:
    texts = {
        project.run(*words).stdout for words in (["hello", "train", "-d", "-h"], ["-c", "x", "hello", "train", "-h"])
    }

    assert len(texts) == 1
    assert "Global Options" in texts.pop()


def test_the_version_is_that_of_the_package(project: HelloProject) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", project.run("--version").stdout)


def test_a_command_is_found_from_any_directory_of_the_project(project: HelloProject) -> None:
    inner = project.folder / "deep" / "inside"
    inner.mkdir(parents=True)

    done = project.run("hello", "train", cwd=inner)

    assert done.returncode == 0, done.stderr
    assert (project.home / "artifacts" / "artifacts" / "hello-model").is_dir()
    assert not (inner / ".nemotron").exists()
