"""Which server and which key: from the environment or the netrc file."""

from pathlib import Path

import pytest

from nemo_runspec.mirror.server import WandbServer, no_key

VARIABLES = ("WANDB_BASE_URL", "WANDB_API_KEY", "NETRC")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with nothing in it, and no settings."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def key_of(server: WandbServer) -> str | None:
    return server.api_key.get_secret_value() if server.api_key else None


def test_without_settings_it_is_wandb_s_own_server_without_a_key() -> None:
    assert WandbServer.from_environment() == WandbServer(base_url="https://api.wandb.ai")


def test_the_environment_names_server_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example/")
    monkeypatch.setenv("WANDB_API_KEY", "k1")
    server = WandbServer.from_environment()
    assert (server.base_url, key_of(server)) == ("https://wandb.example", "k1")


@pytest.mark.parametrize(
    ("url", "key"), [("https://wandb.example", "k2"), ("https://wandb.example/", "k2"), ("https://other.example", None)]
)
def test_a_key_comes_from_the_netrc_entry_of_the_host(url: str, key: str | None, home: Path) -> None:
    (home / ".netrc").write_text("machine wandb.example\n  login user\n  password k2\n")
    assert key_of(WandbServer.at(url)) == key


def test_a_port_is_part_of_the_netrc_entry(home: Path) -> None:
    (home / ".netrc").write_text("machine localhost:8080 login user password k2\n")
    assert key_of(WandbServer.at("http://localhost:8080")) == "k2"
    assert key_of(WandbServer.at("http://localhost:8081")) is None


def test_the_environment_s_key_goes_before_netrc(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".netrc").write_text("machine api.wandb.ai login user password k2\n")
    monkeypatch.setenv("WANDB_API_KEY", "k1")
    assert key_of(WandbServer.from_environment()) == "k1"


def test_a_key_for_one_server_is_not_given_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    monkeypatch.setenv("WANDB_API_KEY", "k1")
    assert key_of(WandbServer.at("https://other.example")) is None


def test_the_environment_s_key_goes_to_no_server_that_only_a_record_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k1")
    assert key_of(WandbServer.at("https://evil.example")) is None


def test_the_environment_s_key_goes_to_wandb_s_own_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k1")
    assert key_of(WandbServer.at("https://api.wandb.ai/")) == "k1"


def test_the_environment_s_key_goes_to_the_server_of_the_user_s_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k1")
    assert key_of(WandbServer.at("https://wandb.lab", own="https://wandb.lab/")) == "k1"
    assert key_of(WandbServer.at("http://wandb.lab", own="https://wandb.lab/")) is None


def test_a_server_named_beside_the_key_is_the_only_one_that_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    monkeypatch.setenv("WANDB_API_KEY", "k1")
    assert key_of(WandbServer.at("https://wandb.lab", own="https://wandb.lab")) is None
    assert key_of(WandbServer.at("https://api.wandb.ai")) is None


def test_the_default_entry_of_netrc_is_for_no_server(home: Path) -> None:
    (home / ".netrc").write_text("default login user password k2\n")
    assert key_of(WandbServer.at("https://evil.example")) is None


@pytest.mark.parametrize(
    ("url", "how"),
    [
        ("https://api.wandb.ai", "set WANDB_API_KEY, or store one with `wandb login`, then"),
        (
            "https://wandb.lab",
            "set WANDB_API_KEY and WANDB_BASE_URL=https://wandb.lab, or store one with `wandb login --host "
            "https://wandb.lab`, then",
        ),
    ],
)
def test_a_missing_key_is_told_with_the_server_and_how_to_give_one(url: str, how: str) -> None:
    assert str(no_key(url)) == f"no API key for W&B server {url}; {how} run nemotron artifacts sync"


@pytest.mark.parametrize("content", ["machine", "machine api.wandb.ai", "machine api.wandb.ai login user", "\xff"])
def test_a_damaged_netrc_has_no_key(content: str, home: Path) -> None:
    (home / ".netrc").write_text(content, encoding="latin-1")
    assert key_of(WandbServer.from_environment()) is None


def test_a_key_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k1-secret")
    assert "k1-secret" not in repr(WandbServer.from_environment())


def test_a_file_name_has_host_and_port() -> None:
    assert WandbServer(base_url="https://wandb.example:8443").slug == "wandb.example-8443"
