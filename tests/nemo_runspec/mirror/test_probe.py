import socket
from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from wandb_server.server import WandbServerProcess

from nemo_runspec.errors import MirrorError
from nemo_runspec.mirror.probe import ask_user
from nemo_runspec.mirror.server import WandbServer


def server_of(double: WandbServerProcess, key: str | None = None) -> WandbServer:
    return WandbServer(base_url=double.url, api_key=SecretStr(key or double.key))


@pytest.fixture
def silent_url() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_server_that_knows_the_key_names_its_user(wandb_double: WandbServerProcess) -> None:
    assert ask_user(server_of(wandb_double)) == wandb_double.entity


def test_another_key_is_told_and_not_shown(wandb_double: WandbServerProcess) -> None:
    with pytest.raises(MirrorError, match="the API key is not known there") as refusal:
        ask_user(server_of(wandb_double, "z" * 40))
    assert "zzz" not in str(refusal.value)


def test_no_key_is_told() -> None:
    with pytest.raises(MirrorError, match="no API key; set WANDB_API_KEY, then run nemotron artifacts sync"):
        ask_user(WandbServer(base_url="http://127.0.0.1:1"))


def test_a_server_with_trouble_of_its_own_is_told(wandb_double: WandbServerProcess) -> None:
    wandb_double.fault(operation="Viewer", status=503, times=1)
    with pytest.raises(MirrorError, match="answered 503"):
        ask_user(server_of(wandb_double))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[", "nonsense"])
def test_a_url_where_nobody_answers_is_told(url: str) -> None:
    with pytest.raises(MirrorError, match="does not answer"):
        ask_user(WandbServer(base_url=url, api_key=SecretStr("k" * 40)))


def test_a_silent_server_is_given_up(silent_url: str) -> None:
    with pytest.raises(MirrorError, match="timed out"):
        ask_user(WandbServer(base_url=silent_url, api_key=SecretStr("k" * 40)), timeout_s=0.3)
