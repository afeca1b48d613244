"""What references mean in a pipeline run: the same from its first check to its last retry."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from small_recipe import CONFIG, options, write_recipe

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, Producer
from nemo_runspec.errors import ArtifactCorrupted, ArtifactError, ArtifactNotFound, ConfigError, StageFailed
from nemotron.flows.chain import NewestOf, Pipeline, check_all, split_overrides
from nemotron.flows.preview import Preview
from nemotron.tasks.frozen_refs import read_decisions
from nemotron.tasks.stage import run_stage
from nemotron.tasks.stage_options import Stage

TYPE = "SplitJsonlDataArtifact"
SLOT = f'data = "{TYPE}"'
Publish = Callable[..., ArtifactRef]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    monkeypatch.delenv("NEMOTRON_STORE", raising=False)
    return ArtifactStore(tmp_path / ".nemotron" / "artifacts")


@pytest.fixture
def publish(store: ArtifactStore, tmp_path: Path) -> Publish:
    """Publishes a text as the next version of `source`."""

    def publish(text: str, *, name: str = "source", type: str = TYPE, aliases: tuple[str, ...] = ()) -> ArtifactRef:
        path = tmp_path / "source.txt"
        path.write_text(text)
        producer = Producer(run_id="other", stage="s", fingerprint=text)
        return store.publish(path, name=name, type=type, metadata={}, producer=producer, aliases=aliases)

    return publish


def taking(folder: Path, reference: str, *, body: str = "pass") -> Stage:
    """A stage whose config has the reference in its slot `data`."""
    return write_recipe(folder, body=body, inputs=SLOT, config=CONFIG + f"run: {{data: {reference}}}\n")


def inputs_of(store: ArtifactStore, made: ArtifactRef | None) -> list[str]:
    assert made is not None
    return [str(needed) for needed in store.record(made).inputs]


@pytest.mark.parametrize("reference", ["source", "source:best"])
def test_a_retry_takes_the_version_of_the_first_attempt(
    reference: str, publish: Publish, store: ArtifactStore, tmp_path: Path
) -> None:
    publish("one", aliases=("best",))
    marker = tmp_path / "marker"
    stage = taking(tmp_path, reference, body=f"None if Path({str(marker)!r}).exists() else 1 / 0")
    with pytest.raises(StageFailed):
        run_stage(stage, options(tmp_path), {})
    marker.touch()
    publish("two", aliases=("best",))
    assert inputs_of(store, run_stage(stage, options(tmp_path), {}).ref) == ["source:v0"]
    assert inputs_of(store, run_stage(stage, options(tmp_path, run_id="run-2"), {}).ref) == ["source:v1"]


def two_stages(folder: Path, *overrides: str, run_id: str = "run-1", selected: tuple[str, ...] = ("use",)) -> Pipeline:
    """`use` takes the small-data that `make` makes, and makes a newer one itself."""
    write_recipe(folder)
    write_recipe(folder / "second", inputs=SLOT)
    return Pipeline(
        recipe_dir=folder,
        scripts={"make": "recipe/stage0/data_prep.py", "use": "second/recipe/stage0/data_prep.py"},
        options=options(folder, run_id=run_id),
        selected=selected,
        overrides=split_overrides(overrides, ("make", "use")),
    )


def walk(pipeline: Pipeline) -> None:
    pipeline.run("use", data=pipeline.run("make"))


def test_the_newest_of_a_stage_that_is_not_selected_is_that_of_the_first_check(
    publish: Publish, store: ArtifactStore, tmp_path: Path
) -> None:
    publish("one", name="small-data")
    pipeline = two_stages(tmp_path)
    check_all(pipeline, walk)
    publish("two", name="small-data")
    walk(pipeline)
    walk(pipeline)  # its own first result is newer, too
    assert [inputs_of(store, result.ref) for result in pipeline.results] == [["small-data:v0"], ["small-data:v0"]]
    assert [result.reused for result in pipeline.results] == [False, True]


def test_a_later_run_takes_what_is_newest_then(publish: Publish, store: ArtifactStore, tmp_path: Path) -> None:
    publish("one", name="small-data")
    check_all(two_stages(tmp_path), walk)
    publish("two", name="small-data")
    later = two_stages(tmp_path, run_id="run-2")
    walk(later)
    assert inputs_of(store, later.results[0].ref) == ["small-data:v1"]


def test_what_a_stage_of_the_run_makes_goes_to_the_next_one(
    publish: Publish, store: ArtifactStore, tmp_path: Path
) -> None:
    publish("one", name="small-data")
    pipeline = two_stages(tmp_path, selected=())
    check_all(pipeline, walk)
    walk(pipeline)
    assert inputs_of(store, pipeline.results[1].ref) == ["small-data:v1"]


def test_an_override_of_a_pipeline_wins_and_is_decided_by_the_first_check(
    publish: Publish, store: ArtifactStore, tmp_path: Path
) -> None:
    publish("one")
    pipeline = two_stages(tmp_path, "use.run.data=source", selected=())
    check_all(pipeline, walk)
    publish("two")
    walk(pipeline)
    assert inputs_of(store, pipeline.results[1].ref) == ["source:v0"]


def decisions(folder: Path, run_id: str = "run-1") -> dict[str, str]:
    return {found.reference: str(found) for found in read_decisions(folder / ".nemotron", run_id)}


def test_a_check_that_refuses_decides_nothing(publish: Publish, tmp_path: Path) -> None:
    publish("one")
    pipeline = two_stages(tmp_path, "use.run.data=source", "make.text=???", selected=())
    with pytest.raises(ConfigError, match="text is not set"):
        check_all(pipeline, walk)
    assert not (tmp_path / ".nemotron" / "runs").exists()


@pytest.mark.parametrize("overrides", [(), ("use.run.data=source",)])
def test_a_dry_run_decides_nothing(overrides: tuple[str, ...], publish: Publish, tmp_path: Path) -> None:
    publish("one")
    publish("one", name="small-data")
    preview = Preview(**vars(two_stages(tmp_path, *overrides)))
    walk(preview)
    assert preview.stages[0].refused is None
    assert [str(ref) for ref in preview.stages[0].inputs.values()] == ["source:v0" if overrides else "small-data:v0"]
    assert not (tmp_path / ".nemotron" / "runs").exists()


def test_a_version_needs_no_decision(publish: Publish, tmp_path: Path) -> None:
    publish("one")
    run_stage(taking(tmp_path, "source:v0"), options(tmp_path), {})
    assert decisions(tmp_path) == {}


def test_what_was_decided_can_be_read(publish: Publish, tmp_path: Path) -> None:
    publish("one", aliases=("best",))
    run_stage(taking(tmp_path, "source:best"), options(tmp_path), {})
    assert decisions(tmp_path) == {"source:best": "source:v0"}


def test_the_job_config_names_the_version(publish: Publish, tmp_path: Path) -> None:
    publish("one")
    run_stage(taking(tmp_path, "source"), options(tmp_path), {})
    (job,) = (tmp_path / ".nemotron" / "jobs").glob("*/job.yaml")
    assert re.search(r"^  data: source:v0$", job.read_text(), re.MULTILINE)


def test_a_decided_version_that_is_gone_is_told(publish: Publish, store: ArtifactStore, tmp_path: Path) -> None:
    publish("one")
    stage = taking(tmp_path, "source")
    run_stage(stage, options(tmp_path), {})
    publish("two")
    (tmp_path / ".nemotron/artifacts/artifacts/source/versions/v0.json").unlink()
    said = rf"run\.data = source: source:latest is source:v0 in run run-1, which is gone: .*'v0' in {store.path}.*v1"
    with pytest.raises(ArtifactNotFound, match=said + ".*Put it back, or start another run"):
        run_stage(stage, options(tmp_path), {})


def test_a_decided_version_that_is_another_now_is_told(publish: Publish, store: ArtifactStore, tmp_path: Path) -> None:
    first = publish("one")
    stage = taking(tmp_path, "source")
    run_stage(stage, options(tmp_path), {})
    (tmp_path / ".nemotron/artifacts/artifacts/source/versions/v0.json").unlink()
    second = publish("two")
    with pytest.raises(ArtifactCorrupted, match=f"expected {first.digest}, got {second.digest} in {store.path}; put"):
        run_stage(stage, options(tmp_path), {})


def test_a_damaged_decision_is_told(publish: Publish, tmp_path: Path) -> None:
    publish("one")
    stage = taking(tmp_path, "source")
    run_stage(stage, options(tmp_path), {})
    (path,) = (tmp_path / ".nemotron" / "runs" / "run-1.refs").iterdir()
    path.chmod(0o644)
    path.write_text("{}")
    with pytest.raises(ConfigError, match=f"{path}: not what a reference of a run means: .*; remove it"):
        run_stage(stage, options(tmp_path), {})


DRIVER = """
import sys, time
from pathlib import Path
from nemotron.tasks.frozen_refs import frozen_refs
from nemotron.tasks.stage_options import StageOptions
refs = frozen_refs(StageOptions(run_id="run-1", project_dir=Path.cwd()))
print("ready", flush=True)
sys.stdin.readline()
print(*(refs.resolve(f"source:{alias}").version for alias in ("latest", "best")))
"""


def test_processes_that_drive_a_run_at_once_agree(publish: Publish, tmp_path: Path) -> None:
    publish("one", aliases=("best",))
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", DRIVER], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    assert [driver.stdout.readline() for driver in drivers if driver.stdout] == ["ready\n"] * 4
    for driver in drivers:
        assert driver.stdin
        driver.stdin.write("\n")
        driver.stdin.flush()
        publish("more", aliases=("best",))
    answers = {driver.communicate(timeout=60)[0] for driver in drivers}
    assert len(answers) == 1
    assert sorted(path.suffix for path in (tmp_path / ".nemotron/runs/run-1.refs").iterdir()) == [".json", ".json"]


MANY = """
import random, sys
from pathlib import Path
from nemotron.tasks.frozen_refs import frozen_refs
from nemotron.tasks.stage_options import StageOptions
refs = frozen_refs(StageOptions(run_id="run-1", project_dir=Path.cwd()))
names = [f"source:a{number}" for number in range(20)]
random.shuffle(names)
found = {name: refs.resolve(name).version for name in names}
print(*(found[name] for name in sorted(found)))
"""


def drive_with_kills(folder: Path, publish: Publish, *, num_kills: int) -> set[str]:
    """Kill all drivers of a run but the last, while what they resolve changes; what those told that came to an end."""
    told = []
    random = Random(num_kills)
    for number in range(num_kills + 1):
        driver = subprocess.Popen([sys.executable, "-c", MANY], cwd=folder, stdout=subprocess.PIPE, text=True)
        with suppress(subprocess.TimeoutExpired):
            driver.wait(random.uniform(0.3, 1.5) if number < num_kills else 60)
        driver.kill()
        told.append(driver.communicate()[0])
        publish(f"{number}", aliases=tuple(f"a{alias}" for alias in range(20)))
    return {answer for answer in told if answer}


@pytest.mark.slow
def test_drivers_that_are_killed_at_any_moment_leave_what_was_decided(publish: Publish, tmp_path: Path) -> None:
    publish("one", aliases=tuple(f"a{alias}" for alias in range(20)))
    assert len(drive_with_kills(tmp_path, publish, num_kills=40)) == 1
    assert len(decisions(tmp_path)) == 20


PLAIN = {"note": "08:00:00", "late": "18:00:00", "host": "host:8080", "x": "team/x:latest", "word": "source"}


def test_what_is_in_no_slot_goes_to_the_script_as_it_is(tmp_path: Path) -> None:
    body = "import json; (out / 'run').write_text(json.dumps(config['run']))"
    result = run_stage(
        write_recipe(tmp_path, body=body),
        options(tmp_path, *(f"run.{key}={value}" for key, value in PLAIN.items())),
        {},
    )
    store = ArtifactStore(tmp_path / ".nemotron" / "artifacts")
    assert result.ref is not None
    assert json.loads((store.materialize(result.ref) / "run").read_text()) == PLAIN
    assert store.record(result.ref).inputs == []


@pytest.mark.parametrize("override", ["run.data=source:v0", "run.data=source", "+run.data=art://source:latest"])
def test_a_slot_that_the_config_leaves_out_can_be_given(
    override: str, publish: Publish, store: ArtifactStore, tmp_path: Path
) -> None:
    publish("one")
    result = run_stage(write_recipe(tmp_path, inputs=SLOT), options(tmp_path, override), {})
    assert inputs_of(store, result.ref) == ["source:v0"]


def test_a_digest_is_compared(publish: Publish, store: ArtifactStore, tmp_path: Path) -> None:
    ref = publish("one")
    stage = write_recipe(tmp_path, inputs=SLOT)
    result = run_stage(stage, options(tmp_path, f"run.data=source@{ref.digest}"), {})
    assert inputs_of(store, result.ref) == ["source:v0"]
    with pytest.raises(ArtifactCorrupted, match=f"source:latest@sha256:0{{64}}: source:v0 has the digest {ref.digest}"):
        run_stage(stage, options(tmp_path, f"run.data=source@sha256:{'0' * 64}"), {})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            "[source]",
            r"data_prep: run\.data = \['source'\] is a list; expected text, NAME:VERSION of an artifact, Split",
        ),
        ("{a: 1}", r"data_prep: run\.data = \{'a': 1\} is a section"),
        ("7", r"data_prep: run\.data = 7 is a number"),
        ("null", r"data_prep: run\.data is not set; give run\.data=NAME:VERSION \(SplitJsonlDataArtifact\)"),
        ("'${oc.env:NO_SUCH_VARIABLE}'", r"data_prep: run\.data: .*NO_SUCH_VARIABLE"),
        ("'a b'", "data_prep: run.data = a b: artifact reference 'a b' is malformed"),
        (
            "model",
            "data_prep: run.data = model: model: model:v0 is a ModelArtifact, expected SplitJsonlDataArtifact; of",
        ),
        ("suorce", "data_prep: run.data = suorce: no artifact 'suorce' in .*Did you mean 'source'"),
    ],
)
def test_a_slot_that_cannot_be_filled_is_refused_in_words(
    data: str, said: str, publish: Publish, tmp_path: Path
) -> None:
    publish("one")
    publish("one", name="model", type="ModelArtifact")
    with pytest.raises((ConfigError, ArtifactError), match=said) as caught:
        run_stage(taking(tmp_path, data), options(tmp_path), {})
    assert len(str(caught.value).splitlines()) == 1


def test_the_newest_of_a_stage_that_made_nothing_is_refused_by_the_check(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFound, match="no artifact 'small-data' in"):
        check_all(two_stages(tmp_path), walk)
    assert isinstance(two_stages(tmp_path).run("make"), NewestOf)
