"""`nemotron artifacts sync`, to the double of the W&B server."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wandb_server.server import WandbServerProcess, wandb_server

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, Producer
from nemo_runspec.errors import ArtifactError
from nemo_runspec.mirror.metrics_notes import note_metrics
from nemo_runspec.mirror.target import WandbTarget
from nemotron.cli.artifacts import app

Publish = Callable[..., ArtifactRef]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WandbServerProcess]:
    with wandb_server(tmp_path_factory.mktemp("wandb-server")) as server:
        yield server


@pytest.fixture(autouse=True)
def environment(server: WandbServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of the test's own, and the server's key."""
    monkeypatch.setenv("NEMOTRON_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("WANDB_API_KEY", server.key)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1:1 login user password {server.key}\n")
    server.clear_faults()


@pytest.fixture
def publish(server: WandbServerProcess, tmp_path: Path) -> Publish:
    """Publishes a version that is meant for the server, in a project named like the test's folder."""

    def publish_version(name: str, *inputs: ArtifactRef, url: str | None = server.url) -> ArtifactRef:
        path = tmp_path / name
        path.write_text(name)
        target = WandbTarget(
            mode="offline",
            project=tmp_path.name,
            base_url=url or "",
            run_id=f"run-{name}",
            name=name,
            group="run",
            job_type=name,
        )
        return ArtifactStore(tmp_path / "store").publish(
            path,
            name=name,
            type="T",
            metadata={},
            producer=Producer(run_id="run", stage=name, fingerprint="f"),
            inputs=inputs,
            wandb=target if url else None,
        )

    return publish_version


def run(*args: str) -> int:
    """The exit code; errors come through."""
    code = app(["sync", *args], standalone_mode=False)
    return code if isinstance(code, int) else 0


def test_a_dry_run_shows_what_waits_where_and_asks_nobody(
    publish: Publish, server: WandbServerProcess, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    publish("model", publish("data"))
    before = server.state()["operations"]
    assert run("--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"data:v0  waits: the default entity/{tmp_path.name}, run run-data on {server.url}",
        f"model:v0  waits: the default entity/{tmp_path.name}, run run-model on {server.url}",
        f"{server.url}: 2 waiting, 0 there",
    ]
    assert server.state()["operations"] == before


def test_what_waits_is_sent_a_line_each_and_then_waits_no_more(
    publish: Publish, server: WandbServerProcess, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    place = f"double/{tmp_path.name}"
    publish("model", publish("data"))
    assert run() == 0
    assert capsys.readouterr().out.splitlines() == [
        f"data:v0 is {place}/data:v0 on W&B, {server.url}/{place}/runs/run-data",
        f"model:v0 is {place}/model:v0 on W&B, {server.url}/{place}/runs/run-model",
        f"{server.url}: 2 sent, 0 there before, 0 not sent",
    ]
    assert run() == 0
    assert capsys.readouterr().out.splitlines() == [f"{server.url}: 0 sent, 2 there before, 0 not sent"]
    assert run("--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [f"{server.url}: 0 waiting, 2 there"]


def test_only_what_is_named_is_sent_with_its_inputs(publish: Publish, capsys: pytest.CaptureFixture[str]) -> None:
    model = publish("model", publish("data"))
    publish("other")
    assert run(str(model), "--json") == 0
    (document,) = json.loads(capsys.readouterr().out)["servers"]
    assert list(document["synced"]) == ["data:v0", "model:v0"]
    assert document["synced"]["data:v0"]["qualified_name"].endswith("/data:v0")


def test_a_dry_run_as_json_lists_what_waits(publish: Publish, capsys: pytest.CaptureFixture[str]) -> None:
    publish("data")
    assert run("--dry-run", "--json") == 0
    (document,) = json.loads(capsys.readouterr().out)["servers"]
    assert (document["waiting"], document["already_there"]) == (["data:v0"], [])


def test_a_server_that_is_down_is_told_once_with_exit_code_1(
    publish: Publish, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "http://127.0.0.1:1"
    publish("model", publish("data", url=url), url=url)
    assert run() == 1
    reason, total = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"W&B {url} does not answer: .*; wait until it does, then run nemotron artifacts sync", reason)
    assert total == f"{url}: 0 sent, 0 there before, 2 not sent"


def test_a_server_that_is_down_keeps_no_other_from_its_versions(
    publish: Publish, server: WandbServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    publish("data", url="http://127.0.0.1:1")
    publish("other")
    assert run() == 1
    assert f"{server.url}: 1 sent, 0 there before, 0 not sent" in capsys.readouterr().out.splitlines()


def test_a_missing_key_is_told(
    publish: Publish, server: WandbServerProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", "/dev/null")
    publish("data")
    assert run() == 1
    assert capsys.readouterr().out.startswith(f"no API key for W&B server {server.url}; set WANDB_API_KEY and ")


def test_the_key_of_another_server_is_sent_to_none_that_only_a_record_names(
    publish: Publish, server: WandbServerProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_BASE_URL")
    before = server.state()["operations"]
    publish("data")
    assert run() == 1
    assert capsys.readouterr().out.startswith(f"no API key for W&B server {server.url}; set WANDB_API_KEY and ")
    assert server.state()["operations"] == before


def test_metrics_of_a_training_without_a_version_are_shown_and_sent(
    server: WandbServerProcess, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 1, "loss": 2.0}\n')
    target = WandbTarget(
        mode="offline",
        project=tmp_path.name,
        base_url=server.url,
        run_id="run-rl",
        name="rl",
        group="run",
        job_type="rl",
    )
    note_metrics(ArtifactStore(tmp_path / "store"), metrics, target)
    assert run("--dry-run") == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("metrics of run run-rl  waits: ")
    assert run() == 0
    assert len(server.state()["runs"][f"double/{tmp_path.name}/run-rl"]["history"]) == 1


def test_a_version_that_is_not_meant_for_wandb_is_refused(publish: Publish) -> None:
    publish("data", url=None)
    with pytest.raises(ArtifactError, match=r"^data:v0 is not meant for W&B: its stage ran without it; set project in"):
        run("data")


def test_a_store_of_which_nothing_is_meant_for_wandb_is_noted(
    publish: Publish, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    publish("data", url=None)
    assert run() == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"note: nothing in {tmp_path / 'store'} is meant for W&B; set project in [wandb] of env.toml\n"
