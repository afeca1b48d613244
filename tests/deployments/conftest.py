from collections.abc import Iterator
from pathlib import Path

import pytest
from team_server import TeamServer, open_folder, team_server


@pytest.fixture(scope="session")
def team_folder() -> Iterator[Path]:
    """A directory that PostgreSQL's user may enter, too."""
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def team(team_folder: Path) -> Iterator[TeamServer]:
    """The session's server, started from a directory that has nothing to do with it."""
    with team_server(team_folder / "server") as server:
        yield server
