"""The commands on a store at a URL."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nemo_runspec.artifacts import ArtifactStore, Producer
from nemotron.cli.artifacts import app
from nemotron.cli.completion import complete_artifact
from nemotron.cli.project_check import check_store


@pytest.fixture
def store(s3_bucket: str, tmp_path: Path) -> ArtifactStore:
    """One with `data:v0`."""
    store = ArtifactStore(f"{s3_bucket}/team")
    (tmp_path / "text").write_text("hello")
    producer = Producer(run_id="run", stage="stage", fingerprint="f0")
    store.publish(tmp_path / "text", name="data", type="T", metadata={}, producer=producer)
    return store


def run(*args: str) -> Result:
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == 0, result.output
    return result


def test_its_artifacts_are_listed(store: ArtifactStore) -> None:
    found = json.loads(run("list", "--json", "--store", store.location).stdout)
    assert (found["store"], [it["name"] for it in found["artifacts"]]) == (store.location, ["data"])


@pytest.mark.parametrize(
    ("command", "said"), [(["show", "data"], "data:v0"), (["verify"], "data:v0"), (["gc"], "no garbage in s3://")]
)
def test_the_environment_names_it(
    command: list[str], said: str, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEMOTRON_STORE", store.location)
    assert said in run(*command).stdout


def test_env_toml_names_it(store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEMOTRON_STORE", raising=False)
    monkeypatch.delenv("NEMOTRON_ENV_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "env.toml").write_text(f'[artifacts]\nroot = "{store.location}"\n')
    assert "data" in run("list").stdout
    assert check_store()[0].said == f"{store.location}: 1 artifacts; nemotron artifacts doctor tries it"
    assert complete_artifact("") == []


def test_what_show_says_of_the_files_is_where_they_were_set_out(store: ArtifactStore) -> None:
    args = ("show", "data", "--json", "--store", store.location)
    assert json.loads(run(*args).stdout)["directory"] is None
    path = store.materialize(store.resolve("data"))
    assert json.loads(run(*args).stdout)["directory"] == str(path)
