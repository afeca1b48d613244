import shutil
from pathlib import Path

import pytest
from small_recipe import CONFIG, options, write_recipe

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemotron.flows.config_changes import MAX_SHOWN, ConfigChanges, compare, find_changes
from nemotron.flows.nano3_stages import build_pipeline
from nemotron.flows.report import render_html
from nemotron.flows.ui_artifacts import pipeline_page, stage_page
from nemotron.tasks.stage import StageResult, run_stage


def run(folder: Path, *overrides: str, run_id: str = "run-1", refresh: bool = False) -> StageResult:
    stage = write_recipe(folder, config=f"{CONFIG}api_key: none\n")
    return run_stage(stage, options(folder, *overrides, run_id=run_id, refresh=refresh), {})


def make(folder: Path, *overrides: str, run_id: str = "run-1", refresh: bool = False) -> ArtifactRef:
    ref = run(folder, *overrides, run_id=run_id, refresh=refresh).ref
    assert ref is not None
    return ref


def changes(folder: Path, ref: ArtifactRef) -> ConfigChanges | None:
    return find_changes(ref, ArtifactStore(folder / ".nemotron" / "artifacts"), folder / ".nemotron" / "work")


def test_settings_are_compared_with_those_of_the_version_before(tmp_path: Path) -> None:
    first = make(tmp_path)
    second = make(tmp_path, "text=bye", "api_key=s3cret")
    found = changes(tmp_path, second)
    assert changes(tmp_path, first) is None
    assert found == ConfigChanges(before=first, lines=("text: hello → bye",))


def test_a_refreshed_artifact_was_made_by_the_same_settings(tmp_path: Path) -> None:
    make(tmp_path)
    found = changes(tmp_path, make(tmp_path, run_id="run-2", refresh=True))
    assert found is not None
    assert found.summary() == ["no difference"]


def test_settings_that_are_gone_are_said_to_be(tmp_path: Path) -> None:
    make(tmp_path)
    (of_first,) = (tmp_path / ".nemotron" / "jobs").iterdir()
    second = make(tmp_path, "text=bye", run_id="run-2")
    shutil.rmtree(of_first)
    found = changes(tmp_path, second)
    assert found is not None
    assert found.summary() == ["not known: the job.yaml of small-data:v0, made by run-1, is not here any more"]


def test_each_page_has_the_changes(tmp_path: Path) -> None:
    make(tmp_path)
    pipeline = build_pipeline(config="tiny", run_id="run-2", project_dir=tmp_path)
    pipeline.results.append(run(tmp_path, "text=a<b", run_id="run-2"))
    store = ArtifactStore(pipeline.options.store_root)
    for_the_ui = "## Settings of data\\_prep, compared with small\\-data:v0\n\n```\ntext: hello → a<b\n```"
    assert for_the_ui in stage_page(pipeline.results[0], store)
    assert for_the_ui in pipeline_page(pipeline, store, None)
    for_the_report = "<h2>Settings of data_prep, compared with small-data:v0</h2><pre>text: hello → a&lt;b</pre>"
    assert for_the_report in render_html(pipeline, store, {})


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": "1"}, ["a: 1 → 1"]),
        ({"a": None}, {}, ["a: None → –"]),
        ({}, {"b.0": "x", "a": []}, ["a: – → []", "b.0: – → x"]),
    ],
)
def test_each_key_that_differs_is_a_line(old: dict[str, object], new: dict[str, object], lines: list[str]) -> None:
    assert list(compare(old, new)) == lines


def test_many_changes_are_cut_short(tmp_path: Path) -> None:
    many = ConfigChanges(before=make(tmp_path), lines=tuple(map(str, range(MAX_SHOWN + 2))))
    assert many.summary()[MAX_SHOWN - 1 :] == [str(MAX_SHOWN - 1), "… 2 more"]
