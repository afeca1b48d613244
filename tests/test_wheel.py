"""The wheel, built by way of the sdist and installed with its light dependencies only, used from another directory."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

HEAVY = {"prefect", "torch", "megatron-core", "ray", "submitit", "uv", "numpy", "pyarrow", "tokenizers", "matplotlib"}
HEAVY |= {"wandb", "s3fs", "fsspec"}
SYMLINKED = ("flows", "tasks", "blocks", "deployments", "recipes")
HELLO = """\
# /// script
# [tool.runspec]
# docs = "Say hello."
# run.launch = "direct"
# artifacts.output = { name = "hello-model", type = "ModelArtifact" }
# ///
from pathlib import Path

from nemo_runspec.artifacts import ModelArtifact, log_artifact, setup_artifact_tracking
from nemo_runspec.script import load_train_config, run_script


def main(config_path: Path) -> None:
    config = load_train_config(config_path)
    path = Path(config["output_dir"], "model.txt")
    path.write_text("hello" * config["steps"])
    log_artifact(ModelArtifact(path=path, step=config["steps"]), setup_artifact_tracking(config))


run_script(main)
"""
NEEDS = {
    "nano3 pipe -c tiny": "flows|train",
    "nano3 data prep pretrain -c tiny": "train",
    "nano3 data prep rl -c tiny": "train",
    "hello train --run lab": "slurm",
}

Run = Callable[..., subprocess.CompletedProcess[str]]


def call(*command: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it without what would let it find this checkout or this user's Prefect."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NEMO", "PREFECT"))}
    words = list(map(str, command))
    return subprocess.run(
        words, cwd=cwd, env={**kept, **variables}, capture_output=True, text=True, timeout=300, check=False
    )


def succeed(*command: str | Path, cwd: Path, **variables: str) -> str:
    done = call(*command, cwd=cwd, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the unpacked sdist, by the build system that pyproject.toml asks for."""
    folder = tmp_path_factory.mktemp("wheel")
    tools, dist = folder / "tools", folder / "dist"
    needed = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    succeed(sys.executable, "-m", "pip", "install", "--quiet", "--target", tools, *needed, cwd=folder)
    build = (sys.executable, "-m", "hatchling", "build", "-d", dist)
    succeed(*build, "-t", "sdist", cwd=repository, PYTHONPATH=str(tools))
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    succeed(*build, "-t", "wheel", cwd=source, PYTHONPATH=str(tools))
    (built,) = dist.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a new environment that holds the wheel and what it cannot do without."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    succeed(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", wheel, cwd=folder)
    return folder / "bin"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's own recipe, outside this repository."""
    folder = tmp_path / "project"
    (folder / "recipes" / "hello" / "config").mkdir(parents=True)
    (folder / "recipes" / "hello" / "train.py").write_text(HELLO)
    (folder / "recipes" / "hello" / "config" / "default.yaml").write_text(
        "steps: 3\noutput_dir: ${oc.env:NEMO_RUN_DIR}\n"
    )
    (folder / "env.toml").write_text('[lab]\nexecutor = "slurm"\npartition = "batch"\n')
    return folder


@pytest.fixture
def nemotron(installed: Path, project: Path, tmp_path: Path) -> Run:
    """Runs the command in the project, for a user who has nothing at home."""
    home = tmp_path / "home"
    home.mkdir()
    return lambda *words, **variables: call(
        installed / "nemotron", *words, cwd=project, HOME=str(home), COLUMNS="120", **variables
    )


def test_the_wheel_has_every_file_of_the_packages_and_no_test(repository: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
    listing = succeed("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=repository)
    tracked = [path for path in map(Path, listing.splitlines()) if (repository / path).is_file()]
    wanted = {f"nemotron/{path}" for path in tracked if path.parts[0] in SYMLINKED}
    wanted |= {str(Path(*path.parts[1:])) for path in tracked if path.parts[0] == "src"}
    assert sorted(wanted - found) == []
    others = {name for name in found - wanted if ".dist-info/" not in name}
    assert sorted(others) == []
    assert {Path(name).suffix for name in wanted if "/recipes/" in name} == {".py", ".yaml", ".txt", ".md"}


def test_what_must_be_installed_is_light(wheel: Path) -> None:
    name, version, *_ = wheel.name.split("-")
    metadata = importlib.metadata.PathDistribution(zipfile.Path(wheel, f"{name}-{version}.dist-info/"))
    required = {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in metadata.requires or [] if "extra ==" not in line}
    assert required == {"blake3", "omegaconf", "pydantic", "pydantic-settings", "rich", "typer"}


def test_the_environment_has_no_heavy_package(installed: Path, tmp_path: Path) -> None:
    code = "import importlib.metadata as m; print(*(d.name.lower() for d in m.distributions()))"
    assert HEAVY.isdisjoint(succeed(installed / "python", "-c", code, cwd=tmp_path).split())


@pytest.mark.parametrize("module", ["nemo_runspec", "nemotron.flows", "nemotron.flows.pipelines", "nemotron.cli.app"])
def test_its_modules_are_found_from_anywhere(installed: Path, tmp_path: Path, module: str) -> None:
    code = f"import {module} as found; print([*found.__path__][0] if hasattr(found, '__path__') else found.__file__)"
    place = succeed(installed / "python", "-W", "error", "-c", code, cwd=tmp_path).strip()
    assert Path(place).is_relative_to(installed.parent)


@pytest.mark.parametrize("words", ["--help", "nano3 sft --help", "hello train --help", "--version", "runs list"])
def test_help_and_lists_work(nemotron: Run, words: str) -> None:
    done = nemotron(*words.split())
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_names_the_recipes_of_the_wheel_and_of_the_user(nemotron: Run) -> None:
    text = nemotron("--help").stdout
    assert re.search(r"│ nano3 ", text)
    assert re.search(r"│ hello ", text)


def test_a_dry_run_shows_a_recipe_of_the_wheel_with_its_config(nemotron: Run) -> None:
    done = nemotron("nano3", "data", "prep", "pretrain", "-c", "tiny", "--dry-run")
    assert "vocab_size: 1024" in done.stdout
    assert done.stdout.endswith("Dry run: nothing was started or written.\n")
    assert "Traceback" not in done.stderr


def test_a_recipe_of_the_user_runs_to_its_artifact(nemotron: Run, project: Path) -> None:
    done = nemotron("hello", "train", "steps=2")
    assert done.returncode == 0, done.stderr
    assert "hello-model:v0" in done.stdout
    assert [path.read_text() for path in project.rglob("model.txt")] == ["hellohello"]
    assert "step: 2" in nemotron("artifacts", "show", "hello-model").stdout


def test_doctor_finds_the_installation_whole_and_names_the_extras(nemotron: Run) -> None:
    done = nemotron("doctor")
    assert done.returncode == 0, done.stdout
    assert {f"nemotron-flows[{extra}]" for extra in ("flows", "train", "ray", "slurm")} <= set(
        re.findall(r"nemotron-flows\[\w+\]", done.stdout)
    )


@pytest.mark.parametrize("words", NEEDS)
def test_a_command_that_needs_an_extra_says_which_in_a_line(nemotron: Run, words: str) -> None:
    done = nemotron(*words.split())
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert re.search(rf"^error: .*pip install 'nemotron-flows\[({NEEDS[words]})[\w,]*\]'", line)


def test_a_configured_server_without_prefect_is_told_in_a_line(nemotron: Run) -> None:
    done = nemotron("hello", "train", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "pip install 'nemotron-flows[flows]'" in line
