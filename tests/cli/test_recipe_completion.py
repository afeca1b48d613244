"""What the shell offers for a recipe command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hello_project import HelloProject


@pytest.fixture
def project(tmp_path: Path) -> HelloProject:
    folder = tmp_path / "project"
    folder.mkdir()
    return HelloProject.create(folder, env_toml='[lab]\nexecutor = "slurm"\n[here]\nexecutor = "local"\n')


def offered(project: HelloProject, line: str) -> set[str]:
    """What fish would offer after that line; descriptions left out."""
    project.env |= {
        "_NEMOTRON_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": line,
    }
    done = project.run()
    assert done.stderr == ""
    return {word.partition("\t")[0] for word in done.stdout.splitlines() if word}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nemotron he", {"hello"}),
        ("nemotron nano3 data prep ", {"pretrain", "sft", "rl"}),
        ("nemotron hello train -c ", {"default", "loud"}),
        ("nemotron hello train --config l", {"loud"}),
        ("nemotron hello train -r ", {"lab", "here"}),
        ("nemotron hello train --batch l", {"lab"}),
        ("nemotron hello train --st", {"--stage"}),
        ("nemotron hello train se", {"seconds="}),
        ("nemotron hello train run.env.n", {"run.env.nodes=", "run.env.nproc_per_node="}),
        ("nemotron nano3 sft run.m", {"run.model="}),
        ("nemotron nano3 sft -c tiny optimizer.l", {"optimizer.lr="}),
        ("nemotron nano3 pipe data_prep_r", {"data_prep_rl."}),
    ],
)
def test_words_are_completed(project: HelloProject, line: str, words: set[str]) -> None:
    assert offered(project, line) == words


def test_artifacts_are_offered_for_an_input(project: HelloProject) -> None:
    project.run("hello", "train")

    assert {"run.model=hello-model", "run.model=hello-model:v0"} <= offered(project, "nemotron nano3 sft run.model=h")


def test_a_broken_config_offers_no_keys_and_says_nothing(project: HelloProject) -> None:
    (project.folder / "recipes" / "hello" / "config" / "loud.yaml").write_text("a: [")

    assert offered(project, "nemotron hello train -c loud wo") == set()


BASH = """
source <(nemotron --show-completion bash)
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_nemotron_completion nemotron
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "replies"),
    [
        ("nemotron hello train -c l", {"loud"}),
        ("nemotron nano3 sft run.model = hello", {"hello-model", "hello-model:latest", "hello-model:v0"}),
        ("nemotron nano3 sft run.model = hello-model : v", {"v0"}),
        ("nemotron nano3 sft run.model =", {"hello-model", "hello-model:latest", "hello-model:v0"}),
        ("nemotron artifacts show hello-model : l", {"latest"}),
    ],
)
def test_bash_which_splits_words_at_signs_completes_them_too(
    project: HelloProject, words: str, replies: set[str]
) -> None:
    project.run("hello", "train")
    programs = Path(sys.executable).parent

    done = subprocess.run(
        ["bash", "-c", BASH.format(words=words)],
        cwd=project.folder,
        env=project.environment() | {"PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert set(done.stdout.split()) == replies, done.stderr
