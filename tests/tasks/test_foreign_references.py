"""A stage whose slot takes an artifact that others put on W&B."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_recipe import CONFIG, options, write_recipe
from wandb_server.server import WandbServerProcess, wandb_server

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.errors import ArtifactError
from nemotron.flows.chain import Pipeline
from nemotron.flows.preview import Preview
from nemotron.tasks.frozen_refs import read_decisions
from nemotron.tasks.stage import run_stage
from nemotron.tasks.stage_options import Stage

CLIENT = """
import sys, wandb
with wandb.init(entity="double", project="others", id=f"make-{sys.argv[1]}") as run:
    artifact = wandb.Artifact("corpus", type="dataset")
    with artifact.new_file("text") as file:
        file.write(sys.argv[1])
    run.log_artifact(artifact, aliases=["best"]).wait()
"""
READ = "(out / 'seen').write_text((Path(config['dir']) / 'text').read_text())"
SLOT = 'data = "SplitJsonlDataArtifact"'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WandbServerProcess]:
    with wandb_server(tmp_path_factory.mktemp("wandb")) as process:
        log(process, tmp_path_factory.mktemp("client"), "one")
        yield process


def log(server: WandbServerProcess, folder: Path, text: str) -> None:
    """Log the next version of `double/others/corpus`, which `best` means from then on."""
    directories = ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")
    env = {**os.environ, **server.env, **dict.fromkeys(directories, str(folder)), "WANDB_SILENT": "true"}
    subprocess.run([sys.executable, "-c", CLIENT, text], env=env, cwd=folder, check=True, timeout=120)


@pytest.fixture(autouse=True)
def wandb_variables(server: WandbServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEMOTRON_STORE", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**server.env, "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)


def stage_taking(folder: Path, reference: str) -> Stage:
    config = f"{CONFIG}run: {{data: {reference}}}\ndir: ${{art:data}}\n"
    return write_recipe(folder, body=READ, inputs=SLOT, config=config)


def test_a_stage_takes_it_and_needs_no_server_for_it_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_stage(stage_taking(tmp_path, "double/others/corpus:v0"), options(tmp_path), {})
    store = ArtifactStore(tmp_path / ".nemotron" / "artifacts")
    assert first.ref is not None
    (taken,) = store.record(first.ref).inputs
    assert (store.materialize(first.ref) / "seen").read_text() == "one"
    assert (taken.name.rpartition("..")[2], taken.version) == ("double.others.corpus", "v0")
    monkeypatch.delenv("WANDB_API_KEY")
    again = run_stage(stage_taking(tmp_path, "double/others/corpus:v0"), options(tmp_path, run_id="run-2"), {})
    assert (again.ref, again.reused) == (first.ref, True)


def test_what_its_alias_means_is_decided_once_a_run(server: WandbServerProcess, tmp_path: Path) -> None:
    stage = stage_taking(tmp_path, "others/corpus:best")
    before = run_stage(stage, options(tmp_path), {})
    log(server, tmp_path, "two")
    assert run_stage(stage, options(tmp_path), {}).ref == before.ref
    later = run_stage(stage, options(tmp_path, run_id="run-2"), {})
    assert later.ref != before.ref
    (decision,) = read_decisions(tmp_path / ".nemotron", "run-2")
    assert (decision.reference, decision.name.rpartition("..")[2]) == ("others/corpus:best", "double.others.corpus")


def test_a_dry_run_fetches_and_writes_nothing(tmp_path: Path) -> None:
    stage = stage_taking(tmp_path, "double/others/corpus:v0")
    preview = Preview(recipe_dir=tmp_path, scripts={"use": str(stage.script)}, options=options(tmp_path))
    preview.run("use")
    (shown,) = preview.stages
    assert (shown.refused, shown.waits_for) == (None, ("W&B",))
    assert not (tmp_path / ".nemotron").exists()


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("double/others/corpse:v0", "data_prep: run.data = .*: .* is one of W&B: .* does not give .*not found"),
        ("double/others/corpus@sha256:" + "0" * 64, "data_prep: run.data = .*corpus:v. has the digest sha256:"),
    ],
)
def test_one_that_cannot_be_taken_is_refused_in_a_line(reference: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=said) as caught:
        run_stage(stage_taking(tmp_path, reference), options(tmp_path), {})
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / ".nemotron" / "work").exists()


def test_the_entity_of_the_config_counts_where_a_reference_names_none(tmp_path: Path) -> None:
    pipeline = Pipeline(
        recipe_dir=tmp_path,
        scripts={"use": str(stage_taking(tmp_path, "others/corpus:v0").script)},
        options=options(tmp_path),
        overrides={"use": ("run.wandb.entity=nobody",)},
    )
    with pytest.raises(ArtifactError, match="does not give nobody/others/corpus:v0"):
        pipeline.run("use")
