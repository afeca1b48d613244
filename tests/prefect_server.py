"""A real Prefect server for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nemotron.flows.embedded_server import embedded_server


@contextmanager
def running_server(home: Path) -> Iterator[str]:
    """The API URL of a server with a database of its own under `home`, for the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with embedded_server(home / "server.log") as url:
            yield url
