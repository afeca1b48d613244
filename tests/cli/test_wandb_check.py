from collections.abc import Iterator
from pathlib import Path

import pytest
from wandb_server.server import WandbServerProcess, wandb_server

from nemo_runspec.checks import Check
from nemotron.cli.wandb_check import check_wandb


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WandbServerProcess]:
    with wandb_server(tmp_path_factory.mktemp("wandb")) as process:
        yield process


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("NEMOTRON_ENV_FILE", "PREFECT_API_URL", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checked(project: Path, table: str) -> Check:
    (project / "env.toml").write_text(f"[wandb]\n{table}\n")
    (check,) = check_wandb()
    return check


def test_nothing_is_asked_of_a_project_without_it(project: Path) -> None:
    assert checked(project, "").said.startswith("not asked for")


def test_a_server_that_answers_is_told_with_the_user(
    project: Path, double: WandbServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", double.key)
    check = checked(project, f'project = "p"\nentity = "team"\nbase_url = "{double.url}"')
    assert (check.outcome, check.said) == ("ok", f"team/p on {double.url}, as {double.entity}")


def test_a_missing_key_is_a_warning_with_advice(project: Path, double: WandbServerProcess) -> None:
    check = checked(project, f'project = "p"\nbase_url = "{double.url}"')
    assert check.outcome == "warning"
    assert check.advice.startswith("set WANDB_API_KEY")


def test_offline_nobody_is_asked(project: Path) -> None:
    check = checked(project, 'project = "p"\nmode = "offline"\nbase_url = "http://127.0.0.1:1"')
    assert check.outcome == "ok"
    assert "nemotron artifacts sync" in check.said
