from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect_server import running_server


@pytest.fixture(scope="session")
def block_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API URL of one real Prefect server with a database of its own."""
    with running_server(tmp_path_factory.mktemp("prefect")) as url:
        yield url


@pytest.fixture
def server(block_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The server as the configured one, without blocks of profiles before and after the test; it may be busy."""
    from nemotron.blocks import env_profile
    from nemotron.blocks.env_profile import list_documents, prefect_client

    monkeypatch.setattr(env_profile, "ANSWER_TIMEOUT_S", 30.0)
    monkeypatch.setenv("PREFECT_API_URL", block_server)
    monkeypatch.chdir(tmp_path)
    yield block_server
    with prefect_client(block_server) as client:
        for document in list_documents(block_server):
            client.delete_block_document(document.id)
