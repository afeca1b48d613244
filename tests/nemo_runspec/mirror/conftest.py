from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from metrics_stage import Stage
from mirrored_store import MirroredStore, Server, new_project
from wandb_server.real import real_server
from wandb_server.server import WandbServerProcess, wandb_server


@pytest.fixture(scope="session")
def wandb_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WandbServerProcess]:
    """One double of the W&B server for the session; tests have projects of their own in it."""
    with wandb_server(tmp_path_factory.mktemp("wandb-server")) as server:
        yield server


@pytest.fixture
def wandb_double(wandb_process: WandbServerProcess) -> Iterator[WandbServerProcess]:
    """The double, without faults before and after."""
    wandb_process.clear_faults()
    yield wandb_process
    wandb_process.clear_faults()


@pytest.fixture
def new_stage(wandb_double: WandbServerProcess, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Makes stages of one pipeline run."""
    made: list[Stage] = []

    def make(**options: Any) -> Stage:
        made.append(Stage(folder=tmp_path, server=wandb_double, **options))
        return made[-1]

    yield make
    for stage in made:
        stage.end()


@pytest.fixture
def stage(new_stage: Callable[..., Stage]) -> Stage:
    """A stage whose metrics are sent while it trains."""
    return new_stage()


@pytest.fixture
def second_double(tmp_path: Path) -> Iterator[WandbServerProcess]:
    """Another server."""
    with wandb_server(tmp_path / "second-server") as server:
        yield server


@pytest.fixture(scope="session", params=["double", pytest.param("real", marks=pytest.mark.wandb_server)])
def wandb_any(request: pytest.FixtureRequest) -> Server:
    """The double; with `-m wandb_server` a real server."""
    if request.param == "real":
        return real_server()
    double: Server = request.getfixturevalue("wandb_process")
    return double


@pytest.fixture
def mirrored(tmp_path: Path, wandb_any: Server) -> MirroredStore:
    """A store that is mirrored to a new project of either server."""
    return MirroredStore(folder=tmp_path, server=wandb_any, project=new_project())


@pytest.fixture
def doubled(tmp_path: Path, wandb_double: WandbServerProcess) -> MirroredStore:
    """A store that is mirrored to a new project of the double, for tests that order faults."""
    return MirroredStore(folder=tmp_path, server=wandb_double, project=new_project())
