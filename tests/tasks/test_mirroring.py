"""A stage and its artifact on W&B, with the unmodified client and the double of its server."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_recipe import options, write_recipe
from wandb_server.server import WandbServerProcess, wandb_server

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.errors import RequirementError, StageFailed
from nemo_runspec.mirror.outbox import pending
from nemo_runspec.mirror.server import WandbServer
from nemotron.tasks.frozen_refs import frozen_refs
from nemotron.tasks.plan import check_stage
from nemotron.tasks.stage import run_stage
from nemotron.tasks.stage_options import StageOptions

NOBODY = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WandbServerProcess]:
    with wandb_server(tmp_path_factory.mktemp("wandb")) as server:
        yield server


@pytest.fixture
def double(process: WandbServerProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WandbServerProcess:
    """The server with its key in the environment."""
    for name in ("WANDB_MODE", "WANDB_BASE_URL", "NEMOTRON_ENV_FILE", "NEMOTRON_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("WANDB_API_KEY", process.key)
    return process


def mirrored(folder: Path, url: str, *overrides: str, run_id: str = "run-1") -> StageOptions:
    project = f"run.wandb.project={folder.name.replace('_', '-')}"
    return options(folder, project, f"run.wandb.base_url={url}", *overrides, run_id=run_id)


def collections(double: WandbServerProcess, folder: Path) -> dict[str, Any]:
    prefix = f"{double.entity}/{folder.name.replace('_', '-')}/"
    found = double.state()["collections"]
    return {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}


def waiting(folder: Path, url: str) -> list[str]:
    store = ArtifactStore(folder / ".nemotron" / "artifacts")
    return [str(record.ref) for record in pending(store, WandbServer.at(url))]


def check(folder: Path, how: StageOptions) -> None:
    check_stage(write_recipe(folder), how, given=(), refs=frozen_refs(how, manner="check"))


def test_a_stages_artifact_is_on_the_server_when_the_stage_ends(tmp_path: Path, double: WandbServerProcess) -> None:
    run_stage(write_recipe(tmp_path), mirrored(tmp_path, double.url), {})
    assert collections(double, tmp_path)["small-data"]["type"] == "SplitJsonlDataArtifact"
    assert waiting(tmp_path, double.url) == []


def test_what_was_made_before_anybody_asked_for_a_mirror_is_sent_when_it_is_reused(
    tmp_path: Path, double: WandbServerProcess
) -> None:
    stage = write_recipe(tmp_path)
    run_stage(stage, options(tmp_path), {})

    result = run_stage(stage, mirrored(tmp_path, double.url, run_id="run-2"), {})

    assert result.reused
    assert "small-data" in collections(double, tmp_path)


def test_offline_it_waits(tmp_path: Path, double: WandbServerProcess) -> None:
    run_stage(write_recipe(tmp_path), mirrored(tmp_path, double.url, "run.wandb.mode=offline"), {})
    assert waiting(tmp_path, double.url) == ["small-data:v0"]
    assert collections(double, tmp_path) == {}


@pytest.mark.usefixtures("double")
def test_a_server_that_is_down_is_a_warning_and_it_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = run_stage(write_recipe(tmp_path), mirrored(tmp_path, NOBODY), {})

    assert str(result.ref) == "small-data:v0"
    assert "small-data:v0 waits to be sent" in caplog.text
    assert "nemotron artifacts sync" in caplog.text
    assert waiting(tmp_path, NOBODY) == ["small-data:v0"]


def test_where_it_is_required_the_stage_fails_and_the_next_try_only_sends(
    tmp_path: Path, double: WandbServerProcess
) -> None:
    stage = write_recipe(tmp_path)
    required = "run.wandb.required=true"
    double.fault(operation="Viewer", status=503, times=1)
    with pytest.raises(StageFailed, match="small-data:v0 is in the store and not on W&B") as failure:
        run_stage(stage, mirrored(tmp_path, double.url, required), {})
    assert failure.value.may_retry

    again = run_stage(stage, mirrored(tmp_path, double.url, required), {})

    assert again.reused
    assert "small-data" in collections(double, tmp_path)


def test_a_missing_key_is_told_before_anything_starts(
    tmp_path: Path, double: WandbServerProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    with caplog.at_level(logging.WARNING):
        check(tmp_path, mirrored(tmp_path, double.url, run_id="no-key"))
    assert "no API key; set WANDB_API_KEY" in caplog.text


def test_a_missing_key_where_it_is_required_is_refused_before_anything_starts(
    tmp_path: Path, double: WandbServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(RequirementError, match="no API key"):
        check(tmp_path, mirrored(tmp_path, double.url, "run.wandb.required=true"))


def test_the_projects_env_toml_asks_for_it(tmp_path: Path, double: WandbServerProcess) -> None:
    (tmp_path / "env.toml").write_text(f'[wandb]\nproject = "from-env-toml"\nbase_url = "{double.url}"\n')
    run_stage(write_recipe(tmp_path), options(tmp_path), {})
    assert f"{double.entity}/from-env-toml/small-data" in double.state()["collections"]
