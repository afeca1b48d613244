import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.ssh_server import SshServer, short_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    with SshServer.running(folder / "server") as running:
        monkeypatch.setenv("PATH", f"{running.programs}:{os.environ['PATH']}")
        yield running
