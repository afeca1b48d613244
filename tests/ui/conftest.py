from collections.abc import Iterator
from pathlib import Path

import pytest
from deployed_project import Deployed, deployed_project
from prefect_ui import PrefectUi, prefect_ui
from team_server import open_folder, team_server


@pytest.fixture(scope="session")
def deployed() -> Iterator[Deployed]:
    """A server, a project whose deployments are on it, and a worker."""
    with open_folder() as folder:
        project, elsewhere = folder / "project", folder / "elsewhere"
        project.mkdir()
        elsewhere.mkdir()
        (project / "env.toml").touch()
        with team_server(folder / "server") as team, deployed_project(team, project, elsewhere) as found:
            yield found


@pytest.fixture(scope="session")
def signed_in(deployed: Deployed, repository: Path) -> Iterator[PrefectUi]:
    """The browser of somebody who has signed in."""
    with prefect_ui(deployed.team, repository) as ui:
        ui.sign_in()
        yield ui
