"""A stage and its artifact on W&B, with the unmodified client and the double of its server."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from small_recipe import options, write_recipe
from wandb_server.server import WandbServerProcess, wandb_server

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.errors import ConfigError, RequirementError, StageCancelled, StageFailed
from nemo_runspec.mirror.outbox import pending
from nemo_runspec.mirror.server import WandbServer
from nemo_runspec.mirror.sync import sync
from nemotron.tasks.frozen_refs import frozen_refs
from nemotron.tasks.plan import check_stage
from nemotron.tasks.stage import run_stage
from nemotron.tasks.stage_options import Stage, StageOptions

NOBODY = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WandbServerProcess]:
    with wandb_server(tmp_path_factory.mktemp("wandb")) as server:
        yield server


@pytest.fixture
def double(process: WandbServerProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WandbServerProcess:
    """The server with its URL and its key in the environment."""
    for name in ("WANDB_MODE", "WANDB_ENTITY", "NEMOTRON_ENV_FILE", "NEMOTRON_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("WANDB_API_KEY", process.key)
    monkeypatch.setenv("WANDB_BASE_URL", process.url)
    process.clear_faults()
    return process


def mirrored(folder: Path, url: str, *overrides: str, run_id: str = "run-1") -> StageOptions:
    project = f"run.wandb.project={project_of(folder)}"
    return options(folder, project, f"run.wandb.base_url={url}", *overrides, run_id=run_id)


def project_of(folder: Path) -> str:
    return folder.name.replace("_", "-")


def collections(double: WandbServerProcess, folder: Path, *, project: str | None = None) -> dict[str, Any]:
    prefix = f"{double.entity}/{project or project_of(folder)}/"
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
def test_a_server_that_is_down_is_a_warning_and_it_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", NOBODY)
    with caplog.at_level(logging.WARNING):
        result = run_stage(write_recipe(tmp_path), mirrored(tmp_path, NOBODY), {})

    assert str(result.ref) == "small-data:v0"
    assert f"small-data:v0 is in the store and not on W&B: W&B {NOBODY} does not answer" in caplog.text
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
    assert f"no API key for W&B server {double.url}; set WANDB_API_KEY" in caplog.text


def test_a_missing_key_where_it_is_required_is_refused_before_anything_starts(
    tmp_path: Path, double: WandbServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(RequirementError, match="no API key"):
        check(tmp_path, mirrored(tmp_path, double.url, "run.wandb.required=true"))


def test_required_and_made_for_another_project_it_is_sent_to_both(tmp_path: Path, double: WandbServerProcess) -> None:
    stage = write_recipe(tmp_path)
    run_stage(stage, mirrored(tmp_path, double.url), {})

    other = ("run.wandb.project=other-project", "run.wandb.required=true")
    run_stage(stage, mirrored(tmp_path, double.url, *other, run_id="run-2"), {})

    assert "small-data" in collections(double, tmp_path)
    assert "small-data" in collections(double, tmp_path, project="other-project")


def test_required_and_made_for_another_server_it_is_sent_to_this_one(
    tmp_path: Path, double: WandbServerProcess
) -> None:
    stage = write_recipe(tmp_path)
    run_stage(stage, mirrored(tmp_path, NOBODY, "run.wandb.mode=offline"), {})

    run_stage(stage, mirrored(tmp_path, double.url, "run.wandb.required=true", run_id="run-2"), {})

    assert "small-data" in collections(double, tmp_path)


def test_required_and_offline_is_refused_before_anything_starts(tmp_path: Path, double: WandbServerProcess) -> None:
    how = mirrored(tmp_path, double.url, "run.wandb.required=true", "run.wandb.mode=offline")
    with pytest.raises(ConfigError, match="nothing is sent while a stage runs"):
        check(tmp_path, how)


METRICS = "from nemo_runspec.metrics_log import MetricsLog; MetricsLog(total=1).log(1, {'loss': 1.0})"
SPOILED_METRICS = (
    "path = Path(os.environ['NEMOTRON_METRICS']); path.write_text('{\"step\": 1}\\n'); "
    "path.with_name('metrics.jsonl.wandb.log').mkdir()"
)


def test_metrics_that_cannot_be_sent_are_a_warning_even_where_the_artifact_is_required(
    tmp_path: Path, double: WandbServerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    stage = write_recipe(tmp_path, body=SPOILED_METRICS)
    with caplog.at_level(logging.WARNING):
        run_stage(stage, mirrored(tmp_path, double.url, "run.wandb.required=true"), {})

    assert "small-data" in collections(double, tmp_path)
    assert "not sent to W&B: metrics of small-data:v0: [Errno 21] Is a directory" in caplog.text


@pytest.fixture
def made_in_a_store_that_takes_no_notes(tmp_path: Path, double: WandbServerProcess) -> Stage:
    """A stage whose artifact was made without a mirror."""
    assert double.url
    stage = write_recipe(tmp_path)
    run_stage(stage, options(tmp_path), {})
    (tmp_path / ".nemotron" / "artifacts" / "mirrors").write_text("")
    return stage


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_store_that_takes_no_notes_is_a_warning(
    mode: str,
    made_in_a_store_that_takes_no_notes: Stage,
    tmp_path: Path,
    double: WandbServerProcess,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        run_stage(made_in_a_store_that_takes_no_notes, mirrored(tmp_path, double.url, f"run.wandb.mode={mode}"), {})

    assert "small-data:v0 is in the store and not on W&B: artifact store " in caplog.text


def test_a_store_that_takes_no_notes_fails_the_stage_where_it_is_required(
    made_in_a_store_that_takes_no_notes: Stage, tmp_path: Path, double: WandbServerProcess
) -> None:
    how = mirrored(tmp_path, double.url, "run.wandb.required=true")
    with pytest.raises(StageFailed, match="small-data:v0 is in the store and not on W&B: artifact store "):
        run_stage(made_in_a_store_that_takes_no_notes, how, {})


def test_a_cancel_ends_the_sending(tmp_path: Path, double: WandbServerProcess) -> None:
    how = mirrored(tmp_path, double.url, "run.wandb.timeout_s=300")
    how.cancel_path.parent.mkdir(parents=True)
    double.fault(operation="CommitArtifact", delay_s=600)
    stage = write_recipe(tmp_path)

    def cancel_while_it_is_sent() -> None:
        while not collections(double, tmp_path):
            time.sleep(0.1)
        how.cancel_path.touch()

    with ThreadPoolExecutor() as pool:
        pool.submit(cancel_while_it_is_sent)
        began = time.monotonic()
        with pytest.raises(
            StageCancelled, match="cancelled while small-data:v0 was being sent to W&B; it is in the store"
        ):
            run_stage(stage, how, {})
    assert time.monotonic() - began < 120
    assert waiting(tmp_path, double.url) == ["small-data:v0"]


ACCESS = "(out / 'access').write_text(f\"{os.environ.get('WANDB_BASE_URL')} {os.environ.get('WANDB_API_KEY')}\")"


def access_of_a_script(folder: Path, how: StageOptions) -> str:
    """`URL KEY` that a stage's script has in its environment."""
    run_stage(write_recipe(folder, body=ACCESS), how, {})
    (found,) = folder.rglob("work/*/out/access")
    return found.read_text()


def test_a_script_gets_the_key_together_with_the_server_that_it_is_for(
    tmp_path: Path, double: WandbServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_BASE_URL")
    (tmp_path / "env.toml").write_text(f'[wandb]\nproject = "access"\nbase_url = "{double.url}"\n')
    assert access_of_a_script(tmp_path, options(tmp_path)) == f"{double.url} {double.key}"


def test_a_script_is_led_to_no_server_that_the_key_is_not_for(
    tmp_path: Path, double: WandbServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_BASE_URL")
    assert access_of_a_script(tmp_path, mirrored(tmp_path, double.url)).startswith("None ")
    assert collections(double, tmp_path) == {}


def test_metrics_of_a_stage_that_failed_are_sent_by_a_later_sync(tmp_path: Path, double: WandbServerProcess) -> None:
    stage = write_recipe(tmp_path, body=f"{METRICS}; raise SystemExit(7)")
    with pytest.raises(StageFailed):
        run_stage(stage, mirrored(tmp_path, double.url, "run.wandb.mode=offline"), {})

    store = ArtifactStore(tmp_path / ".nemotron" / "artifacts")
    report = sync(store, WandbServer.at(double.url))

    assert report.failed == {}
    run = double.state()["runs"][f"{double.entity}/{project_of(tmp_path)}/run-1-data_prep"]
    assert [row["_step"] for row in run["history"]] == [1]


def test_the_projects_env_toml_asks_for_it(tmp_path: Path, double: WandbServerProcess) -> None:
    (tmp_path / "env.toml").write_text(f'[wandb]\nproject = "from-env-toml"\nbase_url = "{double.url}"\n')
    run_stage(write_recipe(tmp_path), options(tmp_path), {})
    assert f"{double.entity}/from-env-toml/small-data" in double.state()["collections"]
