"""What the server is told, and what follows from it."""

import os
from pathlib import Path

import pytest

from nemo_runspec.errors import ConfigError, RequirementError
from nemotron.deployments.database import parse_database_url
from nemotron.deployments.postgres import Cluster
from nemotron.deployments.secrets_file import ServerSecrets, load_secrets, new_secrets, save_secrets
from nemotron.deployments.server_process import prefect_environment
from nemotron.deployments.server_settings import AskedSettings, ServerSettings, load_settings, save_settings


def environment(folder: Path, settings: ServerSettings) -> dict[str, str]:
    return dict(prefect_environment(folder, settings, new_secrets(), database_url="postgresql+asyncpg://db/prefect"))


def test_the_ui_asks_the_public_url_and_clients_too(tmp_path: Path) -> None:
    settings = ServerSettings(host="0.0.0.0", port=80, public_url="https://prefect.lab.example/")
    assert environment(tmp_path, settings)["PREFECT_SERVER_UI_API_URL"] == "https://prefect.lab.example/api"
    assert settings.api_url == "https://prefect.lab.example/api"
    assert settings.local_api_url == "http://localhost:80/api"


def test_an_ipv6_address_is_put_in_brackets() -> None:
    assert ServerSettings(host="::1", port=4200).api_url == "http://[::1]:4200/api"


def test_settings_of_a_client_do_not_reach_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "a:b")
    given = environment(tmp_path, ServerSettings())
    assert not {"PREFECT_API_URL", "PREFECT_API_AUTH_STRING"} & given.keys()
    assert given["PATH"] == os.environ["PATH"]


def test_each_setting_of_the_server_is_one_that_prefect_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import Settings

    for name, value in environment(tmp_path, ServerSettings(port=4321)).items():
        monkeypatch.setenv(name, value)
    server = Settings().server
    assert server.api.auth_string is not None
    assert server.database.connection_url is not None
    assert server.database.connection_url.get_secret_value() == "postgresql+asyncpg://db/prefect"
    assert (server.api.port, server.analytics_enabled, server.ui.api_url) == (4321, False, "/api")
    assert server.ui.static_directory == str(tmp_path / "ui")


@pytest.mark.parametrize("url", ["prefect.lab", "ftp://prefect.lab", "https://lab/prefect"])
def test_a_public_url_that_could_not_be_reached_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected http"):
        ServerSettings(public_url=url)


def test_what_was_asked_for_once_holds_for_the_next_start(tmp_path: Path) -> None:
    save_settings(tmp_path, AskedSettings(port=4300).over(load_settings(tmp_path)))
    assert AskedSettings(host="0.0.0.0").over(load_settings(tmp_path)) == ServerSettings(host="0.0.0.0", port=4300)


def test_a_database_url_is_split_for_postgres_programs_and_for_prefect() -> None:
    found = parse_database_url("postgresql://me:p%40ss@db.lab:5433/prefect?ssl=require")
    assert found.url == "postgresql://me@db.lab:5433/prefect?ssl=require"
    assert found.async_url == "postgresql+asyncpg://me:p%40ss@db.lab:5433/prefect?ssl=require"
    assert found.password == "p@ss"


@pytest.mark.parametrize("url", ["sqlite:///x.db", "postgresql://db.lab", "db.lab/prefect"])
def test_a_database_url_of_another_kind_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError, match=r"expected postgresql://USER:PASSWORD@HOST"):
        parse_database_url(url.replace("://", "://u:secret@"))


def test_secrets_are_not_shown_and_come_back_as_they_were(tmp_path: Path) -> None:
    secrets = new_secrets(database_url="postgresql://me:pw@db/prefect")
    save_secrets(tmp_path, secrets)
    assert load_secrets(tmp_path) == secrets
    assert repr(secrets) == "ServerSecrets()"
    assert (tmp_path / "secrets.env").stat().st_mode & 0o777 == 0o600


def test_a_secret_that_is_missing_is_named(tmp_path: Path) -> None:
    save_secrets(tmp_path, ServerSecrets(auth_string="a:b", encryption_key="", database_password="x"))
    with pytest.raises(ConfigError, match="PREFECT_SERVER_ENCRYPTION_KEY is missing"):
        load_secrets(tmp_path)


def test_a_path_that_is_too_long_for_a_socket_is_replaced_by_one_that_nobody_else_may_have_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    long = tmp_path / ("x" * 100)
    cluster = Cluster(folder=long, programs=Path("/nowhere"), password="", user=None)
    assert cluster.socket_folder.parent == tmp_path
    cluster.socket_folder.mkdir()
    cluster.socket_folder.chmod(0o777)
    with pytest.raises(RequirementError, match="others may write in it; remove it"):
        cluster.prepare()
