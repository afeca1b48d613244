"""A bare interpreter, and a recipe to package."""

from pathlib import Path

import pytest
from bare_python import BarePython, create_bare_venv
from small_project import RECIPE, git, write_files


@pytest.fixture(scope="session")
def bare_venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_bare_venv(tmp_path_factory.mktemp("bare") / "venv")


@pytest.fixture
def bare_python(bare_venv: Path, tmp_path: Path) -> BarePython:
    cwd = tmp_path / "elsewhere"
    cwd.mkdir()
    return BarePython(path=bare_venv, cwd=cwd)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git repository with a recipe, committed."""
    folder = tmp_path / "project"
    write_files(folder, RECIPE)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "recipe")
    return folder


@pytest.fixture
def script(project: Path) -> Path:
    return project / "recipe" / "stage0" / "data_prep.py"
