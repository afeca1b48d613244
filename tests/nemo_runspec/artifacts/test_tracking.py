import json
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
    monkeypatch.setenv("NEMOTRON_STORE", str(store.root))
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
    assert (producer.run_id, producer.stage, producer.fingerprint) == ("by-hand", "by-hand", "")


def test_by_hand_inputs_come_from_the_run_section(
    publish: Publisher, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish({"a": "x"}, name="base")
    monkeypatch.setenv("NEMOTRON_STORE", str(store.root))
    tracking = setup_artifact_tracking({"run": {"model": "base", "env": {"a": "b"}, "n": 1}})
    assert {slot: str(ref) for slot, ref in tracking.inputs.items()} == {"model": "base:v0"}


@pytest.mark.parametrize("config", [{}, {"run": None}, {"run": {}}])
def test_by_hand_there_may_be_no_inputs(config: dict[str, object]) -> None:
    assert setup_artifact_tracking(config).inputs == {}


@pytest.mark.parametrize("variable", ["STORE", "RUN_ID", "STAGE", "OUTPUT_NAME"])
def test_an_empty_variable_is_as_good_as_none(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without = setup_artifact_tracking({})
    monkeypatch.setenv(f"NEMOTRON_{variable}", "")
    tracking = setup_artifact_tracking({})
    assert (tracking.store.root, tracking.run_id, tracking.stage, tracking.output_name) == (
        without.store.root,
        "by-hand",
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
