import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from store_publisher import Publisher

from nemo_runspec.artifacts import Artifact, ArtifactStore, ModelArtifact, log_artifact, setup_artifact_tracking
from nemo_runspec.errors import ArtifactError, ArtifactNotFound, StoreError

VARIABLES = ["STORE", "RUN_ID", "STAGE", "FINGERPRINT", "OUTPUT_NAME", "INPUTS"]


@pytest.fixture(autouse=True)
def by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a stage in the environment, and a working directory of its own."""
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.chdir(tmp_path)
    for variable in VARIABLES:
        monkeypatch.delenv(f"NEMOTRON_{variable}", raising=False)


@pytest.fixture
def in_stage(store: ArtifactStore, publish: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stage named `sft` puts into the environment of its script."""
    publish({"a": "x"}, name="base")
    publish({"a": "x"}, name="chats")
    monkeypatch.setenv("NEMOTRON_STORE", str(store.path))
    monkeypatch.setenv("NEMOTRON_RUN_ID", "run-7")
    monkeypatch.setenv("NEMOTRON_STAGE", "sft")
    monkeypatch.setenv("NEMOTRON_FINGERPRINT", "abc")
    monkeypatch.setenv("NEMOTRON_OUTPUT_NAME", "tuned")
    monkeypatch.setenv("NEMOTRON_INPUTS", json.dumps({"model": "base:v0", "data": "chats:v0"}))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    path = tmp_path / "output"
    path.mkdir()
    (path / "w.bin").write_text("w")
    return path


@pytest.mark.usefixtures("in_stage")
def test_a_stage_says_under_what_name_and_by_whom(output: Path, store: ArtifactStore) -> None:
    log_artifact(Artifact(path=output, name="ignored"), setup_artifact_tracking({}))
    producer = store.record(store.resolve("tuned:v0")).producer
    assert (producer.run_id, producer.stage, producer.fingerprint) == ("run-7", "sft", "abc")


@pytest.mark.usefixtures("in_stage")
def test_a_stage_says_from_what(output: Path, store: ArtifactStore) -> None:
    ref = log_artifact(Artifact(path=output), setup_artifact_tracking({"run": {"model": "ignored:v9"}}))
    assert ref is not None
    assert [str(needed) for needed in store.record(ref).inputs] == ["base:v0", "chats:v0"]


@pytest.mark.usefixtures("in_stage")
def test_inputs_are_pinned_before_the_work(publish: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOTRON_INPUTS", '{"model": "base:latest"}')
    tracking = setup_artifact_tracking({})
    publish({"a": "y"}, name="base")
    assert str(tracking.inputs["model"]) == "base:v0"


@pytest.mark.usefixtures("in_stage")
def test_a_stage_without_inputs_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOTRON_INPUTS", "{}")
    assert setup_artifact_tracking({"run": {"model": "base"}}).inputs == {}


def test_by_hand_the_store_is_in_the_working_directory(output: Path, tmp_path: Path) -> None:
    log_artifact(Artifact(path=output, name="mine"), setup_artifact_tracking({}))
    assert ArtifactStore(tmp_path / ".nemotron" / "artifacts").names() == ["mine"]


def test_by_hand_nobody_in_particular_made_it(output: Path) -> None:
    tracking = setup_artifact_tracking({})
    ref = log_artifact(Artifact(path=output, name="mine"), tracking)
    assert ref is not None
    producer = tracking.store.record(ref).producer
    assert (producer.stage, producer.fingerprint) == ("by-hand", "")
    assert re.fullmatch(r"by-hand-\d{8}-\d{6}-[0-9a-f]{8}", producer.run_id)


def test_by_hand_all_that_a_process_makes_is_of_one_run_and_no_other_process_s(tmp_path: Path) -> None:
    code = (
        "from nemo_runspec.artifacts import setup_artifact_tracking as setup; print(setup({}).run_id, setup({}).run_id)"
    )
    command = [sys.executable, "-c", code]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.split() for _ in "12"
    )
    assert first[0] == first[1] != second[0] == second[1]


SCRIPT = """
# /// script
# [tool.runspec]
# artifacts.inputs = { model = "ModelArtifact" }
# ///
import json, sys
from pathlib import Path
from nemo_runspec.artifacts import setup_artifact_tracking
from nemo_runspec.script import load_train_config, run_script
def main(path: Path) -> None:
    config = load_train_config(path)
    inputs = setup_artifact_tracking(config).inputs
    print(json.dumps({"inputs": {slot: str(ref) for slot, ref in inputs.items()}, "config": config}))
run_script(main)
"""


def run_by_hand(folder: Path, config: str) -> subprocess.CompletedProcess[str]:
    """A script that declares the slot `model`, started by a person with that config."""
    (folder / "train.py").write_text(SCRIPT.lstrip())
    (folder / "train.yaml").write_text(config)
    command = [sys.executable, "train.py", "--config", "train.yaml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_by_hand_inputs_are_what_is_in_the_slots_that_the_script_declares(
    publish: Publisher, store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish({"a": "x"}, name="base", type="ModelArtifact")
    monkeypatch.setenv("NEMOTRON_STORE", str(store.path))
    run = {"model": "base", "note": "08:00:00", "host": "host:8080", "x": "team/x:latest", "n": 1}
    done = run_by_hand(tmp_path, json.dumps({"run": run}))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"inputs": {"model": "base:v0"}, "config": {"run": run}}


def test_by_hand_what_the_config_looked_into_is_what_is_recorded(
    publish: Publisher, store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish({"a": "x"}, name="base", type="ModelArtifact")
    monkeypatch.setenv("NEMOTRON_STORE", str(store.path))
    done = run_by_hand(tmp_path, "run: {model: base}\nversion: ${art:model,version}\n")
    assert json.loads(done.stdout)["config"] == {"run": {"model": "base:v0"}, "version": "v0"}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("run: {model: [base]}", "run.model = ['base'] is a list; expected text, NAME:VERSION of an artifact, ModelA"),
        ("run: {model: 3}", "run.model = 3 is a number; expected text"),
        ("run: {model: 'a b'}", "artifact reference 'a b' is malformed"),
        ("run: {model: chats}", "chats: chats:v0 is a SFTDataArtifact, expected ModelArtifact; of that type: none"),
        (
            "run: {model: team/p/base}",
            "team/p/base is an artifact of a W&B server, which nemotron takes into the store",
        ),
    ],
)
def test_by_hand_a_slot_that_cannot_be_used_is_refused_before_the_work(
    config: str, said: str, publish: Publisher, store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish({"a": "x"}, name="chats", type="SFTDataArtifact")
    monkeypatch.setenv("NEMOTRON_STORE", str(store.path))
    done = run_by_hand(tmp_path, config)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert f"error: {said}" in done.stderr


def test_a_process_that_is_no_script_declares_nothing() -> None:
    assert setup_artifact_tracking({"run": {"model": "base", "note": "08:00:00"}}).inputs == {}


@pytest.mark.parametrize("config", [{}, {"run": None}, {"run": {}}])
def test_by_hand_there_may_be_no_inputs(config: dict[str, object]) -> None:
    assert setup_artifact_tracking(config).inputs == {}


@pytest.mark.parametrize("variable", ["STORE", "RUN_ID", "STAGE", "OUTPUT_NAME"])
def test_an_empty_variable_is_as_good_as_none(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without = setup_artifact_tracking({})
    monkeypatch.setenv(f"NEMOTRON_{variable}", "")
    tracking = setup_artifact_tracking({})
    assert (tracking.store.path, tracking.run_id, tracking.stage, tracking.output_name) == (
        without.store.path,
        without.run_id,
        "by-hand",
        None,
    )


@pytest.mark.parametrize("rank", ["1", "7"])
@pytest.mark.usefixtures("in_stage")
def test_other_ranks_publish_nothing(
    rank: str, output: Path, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    assert log_artifact(Artifact(path=output), setup_artifact_tracking({})) is None
    assert store.names() == ["base", "chats"]


@pytest.mark.usefixtures("in_stage")
def test_rank_0_publishes(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    assert str(log_artifact(Artifact(path=output), setup_artifact_tracking({}))) == "tuned:v0"


@pytest.mark.usefixtures("in_stage")
def test_a_model_stays_where_it_is(output: Path, store: ArtifactStore) -> None:
    ref = log_artifact(ModelArtifact(path=output, step=3), setup_artifact_tracking({}))
    assert ref is not None
    assert (ref.type, ref.metadata["iteration"], store.materialize(ref)) == ("ModelArtifact", 3, output)


@pytest.mark.usefixtures("in_stage")
def test_anything_else_is_copied(output: Path, store: ArtifactStore) -> None:
    ref = log_artifact(Artifact(path=output), setup_artifact_tracking({}))
    assert ref is not None
    assert store.record(ref).policy == "copy"


@pytest.mark.parametrize("text", ["", "base:v0", "[]", '"base"', "null", "{", '{"model": 1}', '{"model": null}'])
def test_inputs_that_are_not_a_mapping_of_text_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOTRON_INPUTS", text)
    with pytest.raises(ArtifactError) as caught:
        setup_artifact_tracking({})
    assert str(caught.value) == (
        f"NEMOTRON_INPUTS={text!r} is not a JSON object of slot to NAME:VERSION; unset it or correct it"
    )


def test_an_input_that_is_not_there_is_refused_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOTRON_INPUTS", '{"model": "base:v3"}')
    with pytest.raises(ArtifactNotFound, match="no artifact 'base' in"):
        setup_artifact_tracking({})


def test_a_bad_store_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEMOTRON_STORE", str(tmp_path / "file"))
    with pytest.raises(StoreError, match=f"artifact store {tmp_path}/file: opening it failed"):
        setup_artifact_tracking({})


def test_an_output_without_a_name_is_refused(output: Path) -> None:
    with pytest.raises(ArtifactError, match=f"Artifact at {output} has no name; give name=… or set NEMOTRON_OUTPUT_"):
        log_artifact(Artifact(path=output), setup_artifact_tracking({}))


def test_a_loss_that_is_not_a_number_is_refused(output: Path) -> None:
    model = ModelArtifact(path=output, name="diverged", step=3, final_loss=float("nan"))
    with pytest.raises(ArtifactError, match="diverged: metadata is not finite JSON"):
        log_artifact(model, setup_artifact_tracking({}))
