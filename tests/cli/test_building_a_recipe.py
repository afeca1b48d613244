"""CONTRIBUTING.md, "Building a recipe": its files are written and its commands are run, in a project of its own."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SECTION = "## Building a recipe"
# A fenced block, after a line `path`: if it is a file.
BLOCK = re.compile(r"^(?:`(?P<path>[^`\n]+)`:\n\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Command:
    line: str
    shown: list[str] = field(default_factory=list)


def section(repository: Path) -> str:
    text = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return text.split(f"{SECTION}\n", 1)[1].split("\n## ", 1)[0]


def steps(text: str) -> list[tuple[str, str] | Command]:
    """The files, as path and text, and the commands, in their order."""
    found: list[tuple[str, str] | Command] = []
    for block in BLOCK.finditer(text):
        if block["path"]:
            found.append((block["path"], block["text"]))
        else:
            assert block["language"] == "console", f"a block that is neither a file nor a session: {block[0]}"
            found += commands(block["text"])
    return found


def commands(session: str) -> list[Command]:
    found: list[Command] = []
    for line in session.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:]))
        else:
            found[-1].shown.append(line)
    return found


def pattern(shown: str) -> str:
    """What is shown, with anything where there is an ellipsis."""
    return ".*".join(map(re.escape, shown.split("…")))


def run(project: Path, line: str) -> subprocess.CompletedProcess[str]:
    program, *words = shlex.split(line)
    assert program == "nemotron"
    outside = {"PREFECT_API_URL", "PREFECT_PROFILE", "NEMOTRON_STORE", "NEMOTRON_ENV_FILE", "PYTHONPATH"}
    env = {name: value for name, value in os.environ.items() if name not in outside} | {"COLUMNS": "120"}
    command = [str(Path(sys.executable).parent / "nemotron"), *words]
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=120, check=False)


def write(project: Path, path: str, text: str) -> None:
    (project / path).parent.mkdir(parents=True, exist_ok=True)
    (project / path).write_text(text, encoding="utf-8")


def check(project: Path, command: Command) -> None:
    done = run(project, command.line)
    output = done.stdout + done.stderr
    assert done.returncode == 0, f"{command.line}: {output}"
    missing = [line for line in command.shown if not re.search(f"^{pattern(line)}$", output, re.MULTILINE)]
    assert not missing, f"{command.line}: not in its output: {missing}; it is:\n{output}"


def test_the_section_leads_from_nothing_to_a_model(repository: Path, tmp_path: Path) -> None:
    for step in steps(section(repository)):
        if isinstance(step, Command):
            check(tmp_path, step)
        else:
            write(tmp_path, *step)


def test_the_section_shows_each_thing_that_a_reader_needs(repository: Path) -> None:
    lines = [step.line for step in steps(section(repository)) if isinstance(step, Command)]
    assert {
        "nemotron hello train -c tiny steps=3",
        "nemotron hello train -c tiny steps=3 --dry-run",
        "nemotron hello train -c tiny -- --loud",
        "nemotron runs show",
        "nemotron artifacts show hello-model",
        "nemotron hello train --run my-cluster --dry-run",
    } <= set(lines)


@pytest.mark.usefixtures("slurm")
def test_the_recipe_of_the_section_runs_on_a_cluster(repository: Path, tmp_path: Path) -> None:
    files = [step for step in steps(section(repository)) if not isinstance(step, Command)]
    for path, text in files:
        write(tmp_path, path, text)
    write(tmp_path, "env.toml", dict(files)["env.toml"].replace('"batch"', '"main"') + "poll_interval_s = 1\n")
    check(tmp_path, Command("nemotron hello data"))
    model = ["train | step 2 loss 132.300", "│ train … hello-model:v0 …"]
    check(tmp_path, Command("nemotron hello train -c tiny --run my-cluster", model))


@pytest.mark.parametrize("words", ["--help", "hello --help", "hello train --help", "hello train --dry-run"])
def test_what_only_shows_something_writes_nothing(repository: Path, tmp_path: Path, words: str) -> None:
    project = tmp_path / "project"
    for path, text in [step for step in steps(section(repository)) if not isinstance(step, Command)][:3]:
        write(project, path, text)
    home = tmp_path / "home"
    home.mkdir()
    before = sorted(tmp_path.rglob("*"))
    for folder in [home, *(path for path in before if path.is_dir())]:
        folder.chmod(0o555)
    program = str(Path(sys.executable).parent / "nemotron")
    env = {**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([program, *words.split()], cwd=project, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(tmp_path.rglob("*")) == before
