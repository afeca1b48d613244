from pathlib import Path

import pytest
from flow_process import Project


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One Prefect database for all flows of the session; its first start takes seconds."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture
def project(tmp_path: Path, prefect_home: Path) -> Project:
    return Project(folder=tmp_path, env={"PREFECT_HOME": str(prefect_home)})


@pytest.fixture(scope="session")
def chain_project(tmp_path_factory: pytest.TempPathFactory, prefect_home: Path) -> Project:
    """The project in which the whole chain has run, once, by the README's command."""
    return Project(folder=tmp_path_factory.mktemp("chain"), env={"PREFECT_HOME": str(prefect_home)})
