"""The whole tiny chain, run once as the README says, and what a user may rely on afterwards."""

import contextlib
import json
import re
import sqlite3
import subprocess
from pathlib import Path

import pytest
from flow_process import Project, wait_until

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.metrics_log import read_metrics

STAGES = ["data_prep_pretrain", "pretrain", "data_prep_sft", "sft", "data_prep_rl", "rl"]
OUTPUTS = ["pretrain-data", "pretrain-model", "sft-data", "sft-model", "rl-data", "rl-model"]
# The shortest SFT and RL there is.
SHORT_TAIL = ("sft.train.train_iters=2", "rl.train.train_iters=1", "rl.train.prompts_per_iter=4")


@pytest.fixture(scope="session")
def chain(chain_project: Project) -> subprocess.CompletedProcess[str]:
    return chain_project.run(timeout_s=900)


@pytest.fixture
def store(chain: subprocess.CompletedProcess[str], chain_project: Project) -> ArtifactStore:
    assert chain.returncode == 0, chain.stderr
    return ArtifactStore(chain_project.folder / ".nemotron" / "artifacts")


@pytest.fixture
def model(store: ArtifactStore) -> ArtifactRef:
    return store.resolve("nano3-rl-model:v0")


def table(output: str) -> dict[str, list[str]]:
    """Stage → the other cells of its row in the summary."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines()]
    return {row[0]: row[1:] for row in rows if len(row) == 5}


def made(output: str) -> list[str]:
    """The stages that were not reused."""
    return [stage for stage, cells in table(output).items() if not cells[-1]]


def test_the_chain_runs_through_and_sums_up(chain: subprocess.CompletedProcess[str]) -> None:
    assert chain.returncode == 0, chain.stderr
    assert made(chain.stdout) == STAGES
    artifacts = [cells[2] for cells in table(chain.stdout).values()]
    assert artifacts == [f"nano3-{name}:v0" for name in OUTPUTS]
    assert re.search(r"before RL '.*', after '.*'", chain.stdout)


def test_progress_is_told_in_plain_lines_off_a_terminal(chain: subprocess.CompletedProcess[str]) -> None:
    assert re.search(r"^pretrain: \d+/300  loss \d\.\d+  tokens/s [\d,]+", chain.stderr, re.MULTILINE)
    assert re.search(r"^rl: \d+/60  .*reward", chain.stderr, re.MULTILINE)
    assert "\x1b" not in chain.stderr


@pytest.mark.usefixtures("store")
def test_the_report_stands_alone(chain_project: Project) -> None:
    (folder,) = (chain_project.folder / ".nemotron" / "reports").glob("*-*")
    page = (folder / "report.html").read_text()
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64," in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert (folder / "lineage.svg").read_text() in page
    assert (folder / "lineage.png").read_bytes().startswith(b"\x89PNG")
    assert all(stage in page for stage in STAGES)


def test_lineage_leads_from_the_rl_model_to_the_text_files(store: ArtifactStore, model: ArtifactRef) -> None:
    names = {str(edge.input) for edge in store.lineage(model)}
    assert names == {
        f"nano3-{name}:v0" for name in ("pretrain-data", "pretrain-model", "sft-data", "sft-model", "rl-data")
    }
    sources = store.resolve("nano3-pretrain-data").metadata["source_datasets"]
    assert [Path(source["uri"]).name for source in sources] == ["alice.txt", "as-you-like-it.txt", "paradise-lost.txt"]
    assert all(source["sha256"].startswith("sha256:") for source in sources)


@pytest.mark.usefixtures("store")
def test_the_stages_results_are_kept_by_prefect_as_json_references(prefect_home: Path) -> None:
    kept = "".join(path.read_text() for path in (prefect_home / "storage").iterdir()).replace('\\"', '"')
    named = re.findall(r'"ref": {"name": "nano3-([\w-]+)", "type": "\w+", "version": "v0"', kept)
    assert set(OUTPUTS) <= set(named)


@pytest.mark.usefixtures("store")
def test_the_run_is_shown_in_prefects_ui(prefect_home: Path) -> None:
    with contextlib.closing(sqlite3.connect(prefect_home / "prefect.db")) as database:
        keys = {key for (key,) in database.execute("select key from artifact where type = 'markdown'")}
    assert {"pipeline", *(f"stage-{stage.replace('_', '-')}" for stage in STAGES)} <= keys


def test_training_learns(chain_project: Project, store: ArtifactStore) -> None:
    losses = [row["loss"] for row in read_metrics(chain_project.work_dir("pretrain") / "metrics.jsonl")]
    assert losses[-1] < losses[0] - 2.5
    assert store.resolve("nano3-pretrain-model").metadata["valid_loss"] < 4.5
    assert store.resolve("nano3-sft-model").metadata["valid_loss"] < 0.3  # 0.05 and 0.12 with another seed


def test_rl_raises_the_reward(model: ArtifactRef) -> None:
    first, last = (1 - model.metadata[f"reward_{part}10"] for part in ("first", "last"))
    assert last < 0.75 * first  # of the wrong answers about half are left, of a frozen policy's all
    assert model.metadata["heldout_after"] > model.metadata["heldout_before"] - 0.03  # noise of 200 questions


def test_a_frozen_policy_keeps_its_reward(chain_project: Project, store: ArtifactStore) -> None:
    done = chain_project.run("--plain", "--stages", "rl", "rl.optimizer.lr=0", "rl.train.train_iters=20")
    assert done.returncode == 0, done.stderr
    frozen = store.resolve("nano3-rl-model:latest").metadata
    assert abs(frozen["reward_last10"] - frozen["reward_first10"]) < 0.02
    assert frozen["heldout_after"] == frozen["heldout_before"]


def test_the_samples_are_of_held_out_questions(store: ArtifactStore, model: ArtifactRef) -> None:
    asked = {row["prompt"] for row in json.loads((store.materialize(model) / "samples.json").read_text())}
    data = store.materialize(store.resolve("nano3-rl-data"))
    trained = {json.loads(line)["prompt"] for line in (data / "train.jsonl").read_text().splitlines()}
    assert len(asked) == 200
    assert not asked & trained


@pytest.mark.usefixtures("store")
def test_rl_goes_on_from_its_checkpoint_after_its_flow_was_killed(chain_project: Project) -> None:
    short = ("--stages", "rl", "rl.train.train_iters=8", "rl.checkpoint.save_interval=2")
    before = set((chain_project.folder / ".nemotron" / "work").iterdir())
    process = chain_project.start(*short)
    wait_until(lambda: 3 in new_steps(chain_project, before), timeout_s=180)
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: not chain_project.processes(), timeout_s=60)  # Ray's processes are among them

    done = chain_project.run(*short)

    assert done.returncode == 0, done.stderr
    assert new_steps(chain_project, before) == list(range(1, 9))
    (work_dir,) = set((chain_project.folder / ".nemotron" / "work").iterdir()) - before
    assert re.search("resumed from step [24]$", (work_dir / "log.txt").read_text(), re.MULTILINE)


def new_steps(project: Project, before: set[Path]) -> list[float]:
    """The steps logged in work directories that were not there before."""
    found = set((project.folder / ".nemotron" / "work").iterdir()) - before
    return [row["step"] for folder in found for row in read_metrics(folder / "metrics.jsonl")]


@pytest.mark.usefixtures("store")
def test_a_second_run_reuses_everything_and_says_so(chain_project: Project) -> None:
    done = chain_project.run()
    assert done.returncode == 0, done.stderr
    assert made(done.stdout) == []
    first = min(path.name for path in (chain_project.folder / ".nemotron" / "reports").iterdir())
    assert {cells[-1] for cells in table(done.stdout).values()} == {first}


@pytest.mark.usefixtures("store")
def test_a_changed_sft_setting_reruns_sft_and_rl_only(chain_project: Project) -> None:
    done = chain_project.run("--plain", *SHORT_TAIL)
    assert done.returncode == 0, done.stderr
    assert made(done.stdout) == ["sft", "rl"]


@pytest.mark.usefixtures("store")
def test_refresh_runs_a_stage_again(chain_project: Project) -> None:
    done = chain_project.run("--plain", "--refresh", "--stages", "data_prep_rl")
    assert done.returncode == 0, done.stderr
    assert table(done.stdout)["data_prep_rl"][2:] == ["nano3-rl-data:v1", ""]


def test_a_damaged_input_is_refused_with_the_way_out(chain_project: Project, store: ArtifactStore) -> None:
    weights = store.materialize(store.resolve("nano3-sft-model:v0")) / "model.pt"
    sound = weights.read_bytes()
    weights.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    done = chain_project.run("--plain", "--stages", "rl", "rl.run.model=nano3-sft-model:v0", "rl.train.train_iters=3")
    weights.write_bytes(sound)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert re.search(r"nano3-sft-model:v0: model\.pt: expected blake3:.*, got blake3:.*--refresh", line)
