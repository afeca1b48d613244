from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_process import Project
from prefect_server import running_server


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One Prefect database for all flows of the session; its first start takes seconds."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API URL of one real Prefect server for the session."""
    with running_server(tmp_path_factory.mktemp("prefect-server")) as url:
        yield url


@pytest.fixture
def project(tmp_path: Path, prefect_home: Path) -> Project:
    return Project(folder=tmp_path, env={"PREFECT_HOME": str(prefect_home)})


@pytest.fixture(scope="session")
def chain_project(tmp_path_factory: pytest.TempPathFactory, prefect_home: Path) -> Project:
    """The project in which the whole chain has run, once, by the README's command."""
    return Project(folder=tmp_path_factory.mktemp("chain"), env={"PREFECT_HOME": str(prefect_home)})
