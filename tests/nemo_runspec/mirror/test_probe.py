import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from pydantic import SecretStr
from wandb_server.server import WandbServerProcess

from nemo_runspec.errors import MirrorError
from nemo_runspec.mirror.probe import ask_user, find_fault
from nemo_runspec.mirror.server import WandbServer


@pytest.fixture(autouse=True)
def no_way_of_the_client_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_HTTP_PROXY", "WANDB_HTTPS_PROXY", "WANDB_X_EXTRA_HTTP_HEADERS"):
        monkeypatch.delenv(name, raising=False)


def server_of(double: WandbServerProcess, key: str | None = None) -> WandbServer:
    return WandbServer(base_url=double.url, api_key=SecretStr(key or double.key))


@contextmanager
def unknown_certificate(folder: Path) -> Iterator[str]:
    """A server that shows a certificate which nobody signed but itself."""
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    subprocess.run([*command, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate", folder / "key")
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()


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
    with pytest.raises(
        MirrorError, match=r"^no API key for W&B server http://127\.0\.0\.1:1; set WANDB_API_KEY and WANDB_BASE"
    ):
        ask_user(WandbServer(base_url="http://127.0.0.1:1"))


def test_a_server_with_trouble_of_its_own_is_told(wandb_double: WandbServerProcess) -> None:
    wandb_double.fault(operation="Viewer", status=503, times=1)
    with pytest.raises(MirrorError, match="answered 503"):
        ask_user(server_of(wandb_double))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[", "nonsense"])
def test_a_url_where_nobody_answers_is_told(url: str) -> None:
    with pytest.raises(MirrorError, match="does not answer"):
        ask_user(WandbServer(base_url=url, api_key=SecretStr("k" * 40)))


@pytest.mark.parametrize("name", ["WANDB_HTTP_PROXY", "WANDB_HTTPS_PROXY", "WANDB_X_EXTRA_HTTP_HEADERS"])
def test_a_server_to_which_only_the_client_knows_the_way_is_not_called_down(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = WandbServer(base_url="http://127.0.0.1:1", api_key=SecretStr("k" * 40))
    assert find_fault(server) is not None
    monkeypatch.setenv(name, "x")
    assert find_fault(server) is None


def test_a_server_whose_certificate_only_the_client_may_know_is_not_called_down(tmp_path: Path) -> None:
    with unknown_certificate(tmp_path) as url:
        assert find_fault(WandbServer(base_url=url, api_key=SecretStr("k" * 40))) is None


def test_a_missing_key_is_missed_whatever_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_HTTPS_PROXY", "x")
    assert find_fault(WandbServer(base_url="http://127.0.0.1:1")) is not None


def test_a_silent_server_is_given_up(silent_url: str) -> None:
    with pytest.raises(MirrorError, match="timed out"):
        ask_user(WandbServer(base_url=silent_url, api_key=SecretStr("k" * 40)), timeout_s=0.3)
