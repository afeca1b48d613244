"""A packaged recipe runs where neither the recipe nor this project is: by each packager, as a directory or a tar."""

import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from bare_python import BarePython
from small_project import ANSWER

from nemo_runspec.packaging import PACKAGERS, Package, build_packager, pack_tar, write_package
from nemotron.recipes.nano3.tokenizer import FILE_NAME, train_tokenizer

NANO3 = ("nemotron.recipes",)


def write_directory(package: Package, target: Path) -> None:
    write_package(package, target)


def write_tar(package: Package, target: Path) -> None:
    with tarfile.open(pack_tar(package, target.with_suffix(".tar.gz"))) as tar:
        tar.extractall(target, filter="data")


@pytest.fixture(params=sorted(PACKAGERS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[write_directory, write_tar])
def write(request: pytest.FixtureRequest) -> Callable[[Package, Path], None]:
    return request.param


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    def write_config(text: str) -> Path:
        path = tmp_path / "train.yaml"
        path.write_text(text)
        return path

    return write_config


@pytest.mark.parametrize("module", ["nemotron", "nemo_runspec", "recipe"])
def test_the_bare_interpreter_knows_nothing_of_ours(bare_python: BarePython, module: str) -> None:
    assert "ModuleNotFoundError" in bare_python.run("-c", f"import {module}").stderr


def test_a_package_runs_without_the_project(
    kind: str,
    write: Callable[[Package, Path], None],
    project: Path,
    script: Path,
    tmp_path: Path,
    bare_python: BarePython,
    config: Callable[[str], Path],
) -> None:
    package = build_packager(kind, script).build()
    write(package, tmp_path / "code")
    shutil.rmtree(project)
    ran = bare_python.run_package(tmp_path / "code", package, "--config", config("count: 3"))
    assert (ran.stdout, ran.stderr, ran.returncode) == (ANSWER, "", 0)


def test_a_traceback_shows_files_lines_and_their_text(
    kind: str, script: Path, tmp_path: Path, bare_python: BarePython, config: Callable[[str], Path]
) -> None:
    package = build_packager(kind, script).build()
    write_package(package, tmp_path / "code")
    ran = bare_python.run_package(tmp_path / "code", package, "--config", config("count: -1"))
    frames = re.findall(r'File "\S*?(recipe/\S+)", line (\d+), in (\S+)\n +(.*)\n', ran.stderr)
    check = ("recipe/late.py", "3", "check", 'raise ValueError(f"{count} is negative")  # in late.py')
    start = ("recipe/stage0/data_prep.py", "32", "<module>", "run_script(main)")
    call = ("recipe/stage0/data_prep.py", "26", "main", 'late.check(config["count"])  # in data_prep.py')
    assert [start, call, check] == frames
    assert ran.stderr.endswith("ValueError: -1 is negative\n")
    assert "runpy" not in ran.stderr
    assert ran.returncode == 1


def test_a_package_brings_its_config(
    kind: str, script: Path, tmp_path: Path, bare_python: BarePython, config: Callable[[str], Path]
) -> None:
    package = build_packager(kind, script, train_path=config("count: 3")).build()
    write_package(package, tmp_path / "code")
    ran = bare_python.run_package(tmp_path / "code", package, "--config", tmp_path / "code" / "config.yaml")
    assert (ran.stdout, ran.stderr) == (ANSWER, "")


def test_the_launcher_starts_from_a_package(
    kind: str, script: Path, tmp_path: Path, bare_python: BarePython, config: Callable[[str], Path]
) -> None:
    package = build_packager(kind, script).build()
    write_package(package, tmp_path / "code")
    paths = [tmp_path / "code" / place for place in package.pythonpath]
    words = ["-m", "nemo_runspec.launch", "direct", "--", bare_python.path, tmp_path / "code" / package.script]
    ran = bare_python.run(*words, "--config", config("count: 3"), pythonpath=paths)
    assert (ran.stdout, ran.stderr) == (ANSWER, "")


@pytest.mark.parametrize("module", ["elastic", "ray_ready", "ray_job"])
def test_the_other_launchers_come_along(
    kind: str, script: Path, tmp_path: Path, bare_python: BarePython, module: str
) -> None:
    package = build_packager(kind, script).build()
    write_package(package, tmp_path / "code")
    paths = [tmp_path / "code" / place for place in package.pythonpath]
    ran = bare_python.run("-c", f"import nemo_runspec.launch.{module}, nemo_runspec.jobs.child", pythonpath=paths)
    assert (ran.stderr, ran.returncode) == ("", 0)


def test_a_stage_of_nano3_runs_without_this_project(
    kind: str, repository: Path, tmp_path: Path, bare_python: BarePython, config: Callable[[str], Path]
) -> None:
    script = repository / "recipes" / "nano3" / "stage1_sft" / "data_prep.py"
    package = build_packager(kind, script, packages=NANO3).build()
    write_package(package, tmp_path / "code")
    train_tokenizer(["one and two"], vocab_size=300).save(str(tmp_path / FILE_NAME))
    settings = f"""
        tokenizer_dir: {tmp_path}
        chat_files: []
        valid_fraction: 0.1
        sources: []
        num_continuations: 0
        addition: {{max_addend: 9, num_train: 20, num_valid: 4}}
        pack_size: 64
        seed: 1
        output_dir: {tmp_path / "out"}
    """
    store = str(tmp_path / "store")
    words = ["--config", config(settings)]
    ran = bare_python.run_package(tmp_path / "code", package, *words, NEMOTRON_STORE=store, NEMOTRON_OUTPUT_NAME="sft")
    assert (ran.stderr, ran.returncode) == ("", 0)
    assert sorted(path.name for path in (tmp_path / "out" / "data").iterdir()) == [
        "tokenizer.json",
        "train.parquet",
        "valid.parquet",
    ]
