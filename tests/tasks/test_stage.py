import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from small_recipe import CONFIG, options, write_recipe

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.errors import ArtifactCorrupted, ArtifactError, ConfigError, DataError, StageFailed
from nemotron.tasks.plan import StagePlan, plan_stage
from nemotron.tasks.stage import run_stage


@pytest.mark.parametrize("plain", [False, True])
def test_a_stage_runs_its_script_and_returns_what_it_published(tmp_path: Path, plain: bool) -> None:
    result = run_stage(write_recipe(tmp_path), options(tmp_path, plain=plain), {})
    store = ArtifactStore(tmp_path / ".nemotron" / "artifacts")
    assert str(result.ref) == "small-data:v0"
    assert (store.materialize(result.ref) / "text").read_text() == "hello"
    assert (result.reused, result.made_by) == (False, "run-1")


def test_the_same_stage_again_is_reused_and_names_the_run_that_made_it(tmp_path: Path) -> None:
    stage = write_recipe(tmp_path)
    first = run_stage(stage, options(tmp_path), {})
    second = run_stage(stage, options(tmp_path, run_id="run-2"), {})
    assert (second.ref, second.reused, second.made_by) == (first.ref, True, "run-1")


@pytest.mark.parametrize(
    ("override", "reused"), [("checkpoint.save_interval=9", True), ("text=bye", False), ("text=hello", True)]
)
def test_only_a_setting_that_changes_the_result_makes_it_run_again(tmp_path: Path, override: str, reused: bool) -> None:
    stage = write_recipe(tmp_path)
    run_stage(stage, options(tmp_path), {})
    assert run_stage(stage, options(tmp_path, override), {}).reused is reused


def test_changed_code_makes_it_run_again(tmp_path: Path) -> None:
    run_stage(write_recipe(tmp_path), options(tmp_path), {})
    changed = write_recipe(tmp_path, body="print('changed')")
    assert run_stage(changed, options(tmp_path), {}).reused is False


def test_a_changed_source_file_makes_it_run_again(tmp_path: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_text("one")
    stage = write_recipe(tmp_path, config=CONFIG.replace("[]", f"[{source}]"))
    run_stage(stage, options(tmp_path), {})
    source.write_text("two")
    assert run_stage(stage, options(tmp_path), {}).reused is False


def test_refresh_makes_a_new_version_once_a_run(tmp_path: Path) -> None:
    stage = write_recipe(tmp_path)
    run_stage(stage, options(tmp_path), {})
    refreshed = run_stage(stage, options(tmp_path, refresh=True, run_id="run-2"), {})
    taken_up = run_stage(stage, options(tmp_path, refresh=True, run_id="run-2"), {})
    assert (str(refreshed.ref), refreshed.reused) == ("small-data:v1", False)
    assert (str(taken_up.ref), taken_up.reused) == ("small-data:v1", True)


def test_a_run_that_refreshes_takes_up_its_own_version_whatever_others_made_since(tmp_path: Path) -> None:
    stage = write_recipe(tmp_path)
    own = run_stage(stage, options(tmp_path, refresh=True, run_id="run-1"), {})
    run_stage(stage, options(tmp_path, refresh=True, run_id="run-2"), {})
    assert run_stage(stage, options(tmp_path, refresh=True, run_id="run-1"), {}).ref == own.ref


def test_a_damaged_artifact_is_refused_and_made_again_by_refresh(tmp_path: Path) -> None:
    stage = write_recipe(tmp_path)
    run_stage(stage, options(tmp_path), {})
    flip_contents(tmp_path)
    with pytest.raises(ArtifactCorrupted, match=r"small-data:v0: text: expected blake3:.*--refresh$"):
        run_stage(stage, options(tmp_path, run_id="run-2"), {})
    refreshed = run_stage(stage, options(tmp_path, refresh=True, run_id="run-2"), {})
    assert (str(refreshed.ref), refreshed.reused) == ("small-data:v1", False)


def test_a_large_content_is_not_read_to_be_reused(tmp_path: Path) -> None:
    stage = write_recipe(tmp_path, body=LARGE)
    run_stage(stage, options(tmp_path), {})
    flip_contents(tmp_path)
    assert run_stage(stage, options(tmp_path), {}).reused is True


def test_a_large_input_is_not_read_while_planning(tmp_path: Path) -> None:
    run_stage(write_recipe(tmp_path, body=LARGE), options(tmp_path), {})
    flip_contents(tmp_path)
    plan_with_input(tmp_path)


@pytest.mark.parametrize("damage", [b"hellO", b"hell", None], ids=["flipped", "cut", "gone"])
def test_a_damaged_input_is_refused_while_planning(damage: bytes | None, tmp_path: Path) -> None:
    run_stage(write_recipe(tmp_path), options(tmp_path), {})
    (content,) = contents(tmp_path)
    content.unlink()
    if damage is not None:
        content.write_bytes(damage)
    with pytest.raises(ArtifactCorrupted, match=r"small-data:v0: text: expected .*, got .*--refresh$"):
        plan_with_input(tmp_path)


LARGE = "(out / 'text').write_bytes(bytes(2 << 20))"


def contents(folder: Path) -> list[Path]:
    """The files of the project's store that hold contents."""
    return [path for path in (folder / ".nemotron" / "artifacts" / "objects").rglob("*") if path.is_file()]


def flip_contents(folder: Path) -> None:
    """Change each content of the project's store, as a bad disk would."""
    for path in contents(folder):
        content = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


def plan_with_input(folder: Path) -> StagePlan:
    """Plan a stage that takes what the small recipe made."""
    stage = write_recipe(folder, inputs='data = "SplitJsonlDataArtifact"', config=CONFIG + "run: {data: small-data}\n")
    return plan_stage(stage, options(folder), {}, ArtifactStore(folder / ".nemotron" / "artifacts"))


def test_a_breakpoint_in_a_plain_run_stops_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_in: list[int] = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: stopped_in.append(os.getpid()))
    run_stage(write_recipe(tmp_path, body="breakpoint()"), options(tmp_path, plain=True), {})
    assert stopped_in == [os.getpid()]


@pytest.mark.parametrize("plain", [False, True])
def test_a_refusal_of_the_script_is_told_in_its_words_and_final(tmp_path: Path, plain: bool) -> None:
    stage = write_recipe(tmp_path, body="raise DataError('a.txt: empty')")
    with pytest.raises(StageFailed, match=r"^data_prep: a\.txt: empty$") as caught:
        run_stage(stage, options(tmp_path, plain=plain), {})
    assert caught.value.may_retry is False


def test_a_crash_shows_code_log_and_last_lines_and_may_be_retried(tmp_path: Path) -> None:
    stage = write_recipe(tmp_path, body="raise KeyError('lost')")
    with pytest.raises(
        StageFailed, match=r"data_prep exited with code 1; log: .*log\.txt[\s\S]*KeyError: 'lost'"
    ) as caught:
        run_stage(stage, options(tmp_path), {})
    assert caught.value.may_retry is True


def test_a_killed_script_is_named_with_its_signal(tmp_path: Path) -> None:
    stage = write_recipe(tmp_path, body="os.kill(os.getpid(), 9)")
    with pytest.raises(StageFailed, match="data_prep was ended by SIGKILL"):
        run_stage(stage, options(tmp_path), {})


def test_the_reason_of_an_earlier_attempt_is_not_told_again(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    kill = f"os.kill(os.getpid(), 9) if Path({str(marker)!r}).exists() else None"
    stage = write_recipe(tmp_path, body=f"{kill}; raise DataError('the old reason')")
    with pytest.raises(StageFailed, match="the old reason"):
        run_stage(stage, options(tmp_path), {})
    marker.touch()
    with pytest.raises(StageFailed, match="was ended by SIGKILL") as caught:
        run_stage(stage, options(tmp_path), {})
    assert caught.value.may_retry is True


def test_a_script_that_publishes_nothing_is_a_failure(tmp_path: Path) -> None:
    stage = write_recipe(tmp_path, body="return")
    with pytest.raises(StageFailed, match="ended well but published no 'small-data'"):
        run_stage(stage, options(tmp_path), {})


def test_a_slot_that_nothing_fills_is_refused(tmp_path: Path) -> None:
    stage = write_recipe(tmp_path, inputs='model = "ModelArtifact"')
    with pytest.raises(ConfigError, match=r"run\.model is not set; give run\.model=NAME:VERSION \(ModelArtifact\)"):
        run_stage(stage, options(tmp_path), {})


def test_an_artifact_of_another_type_is_refused(tmp_path: Path) -> None:
    run_stage(write_recipe(tmp_path), options(tmp_path), {})
    stage = write_recipe(tmp_path, inputs='model = "ModelArtifact"', config=CONFIG + "run: {model: null}\n")
    with pytest.raises(ArtifactError, match="is a SplitJsonlDataArtifact, expected ModelArtifact"):
        run_stage(stage, options(tmp_path, "run.model=small-data:v0"), {})


def test_a_value_left_to_the_user_is_refused_by_key(tmp_path: Path) -> None:
    stage = write_recipe(tmp_path, config=CONFIG.replace("hello", "???"))
    with pytest.raises(
        ConfigError, match=r"data_prep: text is not set .*give text=VALUE, in a pipeline data_prep\.text=VALUE"
    ):
        run_stage(stage, options(tmp_path), {})


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    stage = write_recipe(tmp_path, config=CONFIG.replace("[]", "[/no/such]"))
    with pytest.raises(DataError, match=r"sources\.0.*: /no/such is not a file"):
        run_stage(stage, options(tmp_path), {})


def test_the_job_directory_keeps_what_was_asked_and_where_the_code_is_from(tmp_path: Path) -> None:
    run_stage(write_recipe(tmp_path), options(tmp_path, "text=bye"), {})
    (job,) = (tmp_path / ".nemotron" / "jobs").glob("*/job.yaml")
    assert "text=bye" in job.read_text()
    assert "packages:" in job.read_text()
    assert "run:" not in (job.parent / "train.yaml").read_text()


def test_of_two_runs_at_once_one_makes_the_artifact_and_the_other_takes_it(tmp_path: Path) -> None:
    stage = write_recipe(tmp_path, body="import time; time.sleep(1)")
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run_stage, stage, options(tmp_path, run_id=f"run-{number}"), {}) for number in (1, 2)]
        results = [run.result() for run in runs]
    assert sorted(result.reused for result in results) == [False, True]
    assert {str(result.ref) for result in results} == {"small-data:v0"}
