from collections.abc import Iterator
from pathlib import Path

import pytest

from nemotron.flows.embedded_server import embedded_server


@pytest.fixture(scope="session")
def block_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API URL of one real Prefect server with a database of its own."""
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with embedded_server(home / "server.log") as url:
            yield url


@pytest.fixture
def server(block_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The server as the configured one, without blocks of profiles before and after the test."""
    from nemotron.blocks.env_profile import list_documents, prefect_client

    monkeypatch.setenv("PREFECT_API_URL", block_server)
    monkeypatch.chdir(tmp_path)
    yield block_server
    with prefect_client(block_server) as client:
        for document in list_documents(block_server):
            client.delete_block_document(document.id)
