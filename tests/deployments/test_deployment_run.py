"""Runs of the deployments, from a worker that was started somewhere else, on the real server."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from deployed_project import Deployed, deployed_project
from flow_runs import retry, retry_crashed, state, wait_for_state
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from pydantic import SecretStr
from team_server import TeamServer, clean_environment, connect, nemotron, wait_until

from nemo_runspec.artifacts import ArtifactStore, lineage_text
from nemo_runspec.metrics_log import read_metrics
from nemotron.blocks.artifact_stores import WandbArtifactStore, WandbCredentials
from nemotron.deployments.backup import existing_secrets, run_tool
from nemotron.deployments.database import find_database
from nemotron.flows.nano3_stages import STAGES

FEW = ["train.train_iters=2", "train.eval_iters=1", "optimizer.warmup_iters=1"]
FEW_ANSWERS = ["train.prompts_per_iter=4", "train.answers_per_prompt=2", "train.num_rollout_workers=1"]
QUICK = {
    "pretrain": {"overrides": FEW},
    "sft": {"overrides": FEW},
    "rl": {"overrides": ["train.train_iters=1", *FEW_ANSWERS, "optimizer.warmup_iters=0"]},
}
CANARY = "canary-7d1f"


@pytest.fixture(scope="module")
def deployed(team: TeamServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """With a secret in a profile's block and another in the worker's environment."""
    project = tmp_path_factory.mktemp("project")
    (project / "env.toml").write_text(f'[lab]\nexecutor = "local"\nenv_vars = {{SITE_LOGIN = "{CANARY}-profile"}}\n')
    imported = nemotron("env", "import", cwd=project, **team.env)
    assert imported.returncode == 0, imported.stderr
    (project / "env.toml").write_text("")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with deployed_project(team, project, elsewhere, HF_TOKEN=f"{CANARY}-environment") as found:
        yield found


@pytest.fixture(scope="module")
def whole_chain(deployed: Deployed) -> subprocess.CompletedProcess[str]:
    """The whole chain, as a user runs it from a shell; few steps."""
    quick = [word for stage, given in QUICK.items() for word in ("-p", f"{stage}={json.dumps(given)}")]
    return subprocess.run(
        [
            *(sys.executable, "-m", "prefect", "deployment", "run", "nano3/full"),
            *("-p", "config=tiny", "-p", "profile=local", *quick, "--watch"),
        ],
        cwd="/",
        env=clean_environment() | deployed.team.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


def test_the_whole_chain_runs_from_a_worker_in_another_directory(
    deployed: Deployed, whole_chain: subprocess.CompletedProcess[str]
) -> None:
    assert whole_chain.returncode == 0, whole_chain.stdout[-3000:] + whole_chain.stderr
    assert "Flow run finished successfully" in whole_chain.stdout
    store = ArtifactStore(deployed.project / ".nemotron" / "artifacts")
    assert lineage_text(store, store.resolve("nano3-rl-model:latest")).count("-model:v") == 3


@pytest.mark.slow
def test_the_tiny_chain_of_the_readme_runs_as_a_deployment(deployed: Deployed) -> None:
    run = deployed.start("nano3/full", config="tiny", profile="local")
    wait_until(lambda: state(deployed.team, run) in ("COMPLETED", "FAILED", "CRASHED"), timeout_s=900)
    assert state(deployed.team, run) == "COMPLETED", deployed.message(run)


@pytest.mark.usefixtures("whole_chain")
def test_a_retry_of_a_killed_run_goes_on_where_it_was(deployed: Deployed) -> None:
    overrides = ["train.train_iters=30", "train.eval_iters=1", "checkpoint.save_interval=5"]
    run = deployed.start("nano3/pretrain", data_prep_pretrain={}, pretrain={"overrides": overrides})
    metrics = [path / "metrics.jsonl" for path in deployed.work_dirs("pretrain")]

    def steps() -> list[float]:
        new = [path for path in deployed.work_dirs("pretrain") if path / "metrics.jsonl" not in metrics]
        return [row["step"] for path in new for row in read_metrics(path / "metrics.jsonl")]

    wait_until(lambda: 6 in steps(), timeout_s=180)
    os.kill(deployed.process(run), signal.SIGKILL)
    wait_for_state(deployed.team, run, "CRASHED")

    retry_crashed(deployed.team, run)

    wait_for_state(deployed.team, run, "COMPLETED")
    wait_until(lambda: ("data_prep_pretrain", "Cached") in deployed.tasks(run))
    assert steps().count(1) == 1
    assert max(steps()) == 30


@pytest.fixture(scope="module")
def approved(deployed: Deployed, whole_chain: object) -> str:  # noqa: ARG001
    """A run that was paused while the server was away for longer than Prefect's clients try, and then approved."""
    small = {"overrides": ["num_continuations=10", "addition.num_train=100"]}
    run = deployed.start("nano3/data-prep", approve_before=["data_prep_sft"], profile="lab", data_prep_sft=small)
    wait_for_state(deployed.team, run, "PAUSED")
    down = deployed.team.nemotron("down")
    assert down.returncode == 0, down.stderr
    up = deployed.team.nemotron("up")
    assert up.returncode == 0, up.stderr
    assert connect(deployed.team.dir) == deployed.team
    deployed.answer(run, go_on=True, note="looks good")
    wait_for_state(deployed.team, run, "COMPLETED")
    return run


def test_a_run_waits_for_a_yes_also_while_the_server_is_away(deployed: Deployed, approved: str) -> None:
    wanted = [("data_prep_pretrain", "Reused"), ("data_prep_sft", "Completed"), ("data_prep_rl", "Reused")]
    wait_until(lambda: deployed.tasks(approved) == wanted)


def test_a_retry_does_not_ask_again_and_runs_nothing_again(deployed: Deployed, approved: str) -> None:
    retry(deployed.team, approved)
    wait_until(lambda: state(deployed.team, approved) in ("PAUSED", "COMPLETED"), timeout_s=180)
    assert state(deployed.team, approved) == "COMPLETED"
    wanted = ["data_prep_pretrain", "data_prep_rl", "data_prep_sft"]
    wait_until(lambda: sorted(name for name, said in deployed.tasks(approved) if said == "Cached") == wanted)


@pytest.mark.usefixtures("whole_chain")
def test_a_no_cancels_the_run_and_says_why(deployed: Deployed) -> None:
    run = deployed.start("nano3/data-prep", approve_before=["data_prep_sft"])
    wait_for_state(deployed.team, run, "PAUSED")
    deployed.answer(run, go_on=False, note="too early")
    wait_for_state(deployed.team, run, "CANCELLED")
    assert deployed.message(run) == "data_prep_sft: not approved: too early"
    assert [name for name, _ in deployed.tasks(run)] == ["data_prep_pretrain"]


@pytest.mark.slow
@pytest.mark.usefixtures("whole_chain")
def test_a_paused_run_can_be_cancelled(deployed: Deployed) -> None:
    run = deployed.start("nano3/data-prep", approve_before=["data_prep_sft"])
    wait_for_state(deployed.team, run, "PAUSED")
    deployed.team.ask(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    wait_for_state(deployed.team, run, "CANCELLED")
    assert [name for name, _ in deployed.tasks(run)] == ["data_prep_pretrain"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"config": "huge"}, "huge"),
    ({"sft": {"nodes": 0}}, "0 is less than the minimum of 1"),
    ({"sft": {"overides": []}}, "overides"),
    ({"sft": {"time": "soon"}}, "soon"),
    ({"approve_before": ["sfd"]}, "sfd"),
    ({"stf": {}}, "stf"),
    ({"sft": {"overrides": ["run.env.env_vars.HF_TOKEN=hf_1"]}}, "HF_TOKEN"),
]


@pytest.mark.parametrize(("parameters", "says"), REFUSED)
def test_the_server_refuses_a_run_that_cannot_be(deployed: Deployed, parameters: dict[str, Any], says: str) -> None:
    before = deployed.num_runs("full")
    with pytest.raises(HTTPError) as refused:
        deployed.start("nano3/full", **parameters)
    assert refused.value.code == 409
    assert says in json.loads(refused.value.read())["detail"]
    assert deployed.num_runs("full") == before


@pytest.fixture
def mirrored(deployed: Deployed, tmp_path: Path) -> Path:
    """Another project, whose store has W&B's key in a block, and where a run has tried to use it."""
    (tmp_path / "env.toml").write_text('[artifacts]\nblock = "wandb-artifact-store/canary"\n')
    settings = {PREFECT_API_URL: deployed.team.api_url, PREFECT_API_AUTH_STRING: deployed.team.auth}
    with temporary_settings(settings):
        key = SecretStr(f"{CANARY}-wandb".ljust(40, "0"))
        credentials = WandbCredentials(api_key=key, base_url="http://127.0.0.1:9")
        credentials.save("canary")
        WandbArtifactStore(project="p", credentials=credentials, timeout_s=3).save("canary")
    off = {name: {"enabled": False} for name in STAGES if name != "data_prep_pretrain"}
    run = deployed.start("nano3/full", project_dir=str(tmp_path), **off)
    wait_for_state(deployed.team, run, "COMPLETED")
    return tmp_path


@pytest.mark.usefixtures("approved")
def test_secrets_are_in_no_table_log_or_file_of_others(deployed: Deployed, mirrored: Path) -> None:
    folder = deployed.team.dir
    database = find_database(folder, existing_secrets(folder))
    dump = run_tool(database, "pg_dump", database.url)
    assert "nano3-tiny" in dump
    assert CANARY not in dump
    assert CANARY not in json.dumps(deployed.team.ask("block_documents/filter", {}))
    files = [path for project in (deployed.project, mirrored) for path in project.rglob("*") if path.is_file()]
    assert len(files) > 50
    assert [path for path in files if CANARY.encode() in content(path)] == []


def content(path: Path) -> bytes:
    """Nothing of a file that a run has just removed."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
