"""`${art:SLOT,FIELD}` in a train config: every field of every class of artifact, in its own type."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from nemo_runspec import artifacts
from nemo_runspec.artifacts import Artifact, ArtifactStore, InputDatasetInfo, Producer
from nemo_runspec.errors import ConfigError
from nemo_runspec.script import load_train_config

GOLDEN = Path(__file__).parent / "golden" / "artifact_fields.json"
SOURCE = InputDatasetInfo(name="wiki", uri="/data/wiki.txt", size_bytes=12)
TOKENS = {"total_tokens": 9, "total_sequences": 3, "elapsed_sec": 1.5, "source_datasets": [SOURCE]}
FIELDS: dict[str, dict[str, Any]] = {
    "Artifact": {
        "metadata": {"rows": 3, "ratio": 0.5, "ok": True, "none": None, "tags": ["a", "b"], "a": {"b": {"c": 1}}}
    },
    "ModelArtifact": {"step": 7, "final_loss": 2.5, "metadata": {"arch": "nano3"}},
    "DataBlendsArtifact": {**TOKENS, "train_tokens": 5, "valid_tokens": 2, "tokenizer_uri": "hf://t"},
    "PretrainDataArtifact": {**TOKENS, "num_shards": 2, "tokenizer_uri": "hf://t"},
    "PretrainBlendsArtifact": {**TOKENS, "num_shards": 2, "blend_path": "blend.json", "test_tokens": 1},
    "SFTDataArtifact": {**TOKENS, "pack_size": 4096},
    "SplitJsonlDataArtifact": {"total_sequences": 3, "source_datasets": [SOURCE]},
    "EnergonWebDatasetArtifact": {"train_samples": 4, "val_samples": 1, "num_shards": 2, "data_format": "webdataset"},
}
OWN = ("name", "type", "version", "uri")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("NEMOTRON_STORE", str(tmp_path / "store"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("hello")
    return ArtifactStore(tmp_path / "store")


def publish(store: ArtifactStore, folder: Path, class_name: str) -> dict[str, Any]:
    """Publish an artifact of that class as `data`; its metadata."""
    made: Artifact = getattr(artifacts, class_name)(path=folder / "out", name="data", **FIELDS[class_name])
    store.publish(
        folder / "out",
        name="data",
        type=made.type,
        metadata=made.metadata,
        producer=Producer(run_id="r", stage="s", fingerprint="f"),
    )
    return made.metadata


def look_up(folder: Path, *fields: str) -> dict[str, Any]:
    """What a script finds in its config for `${art:data,FIELD}`, by field."""
    config = {
        "run": {"data": "data:v0"},
        "found": {field.replace(".", "/"): f"${{art:data,{field}}}" for field in fields},
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(config))
    found = load_train_config(folder / "train.yaml")["found"]
    return {field.replace("/", "."): value for field, value in found.items()}


@pytest.mark.parametrize("class_name", FIELDS)
def test_every_field_of_every_class_keeps_its_value_and_type(
    class_name: str, store: ArtifactStore, tmp_path: Path
) -> None:
    metadata = publish(store, tmp_path, class_name)
    fields = [*OWN, *metadata, *(f"metadata.{name}" for name in metadata)]
    found = look_up(tmp_path, *fields, *(["iteration"] if "step" in metadata else []))
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("REFRESH_GOLDEN"):
        GOLDEN.write_text(json.dumps({**golden, class_name: found}, indent=1, sort_keys=True) + "\n")
        golden[class_name] = found
    assert found == golden[class_name], (
        f"fields changed; users' configs name them. REFRESH_GOLDEN=1 accepts {GOLDEN.name}"
    )
    assert {name: type(found[name]) for name in metadata} == {name: type(metadata[name]) for name in metadata}


def test_the_digest_is_that_of_the_version(store: ArtifactStore, tmp_path: Path) -> None:
    publish(store, tmp_path, "Artifact")
    assert look_up(tmp_path, "digest") == {"digest": store.resolve("data:v0").digest}


def test_all_classes_are_among_them() -> None:
    classes = {
        name
        for name in artifacts.__all__
        if isinstance(found := getattr(artifacts, name), type) and issubclass(found, Artifact)
    }
    assert classes == set(FIELDS)


def test_the_path_is_the_default_and_has_the_files(store: ArtifactStore, tmp_path: Path) -> None:
    publish(store, tmp_path, "Artifact")
    (tmp_path / "train.yaml").write_text(
        "run: {data: data}\na: ${art:data}\nb: ${art:data,path}\nc: ${art:data}/a.txt\n"
    )
    config = load_train_config(tmp_path / "train.yaml")
    assert config["a"] == config["b"] == str(store.materialize(store.resolve("data")))
    assert Path(config["c"]).read_text() == "hello"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("metadata.a.b.c", 1),
        ("a.b", {"c": 1}),
        ("metadata.tags.1", "b"),
        ("metadata.none", None),
        ("metadata.ok", True),
        ("metadata", FIELDS["Artifact"]["metadata"]),
    ],
)
def test_what_is_inside_of_a_field_is_found_by_dots(
    field: str, value: object, store: ArtifactStore, tmp_path: Path
) -> None:
    publish(store, tmp_path, "Artifact")
    assert look_up(tmp_path, field) == {field: value}


def test_own_fields_come_before_those_of_the_metadata(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = {"name": "inner", "a.b": 1, "a": {"b": 2}, "metadata": {"pack_size": 8, "a": 3}, "iteration": 5}
    monkeypatch.setitem(FIELDS, "Artifact", {"metadata": metadata})
    publish(store, tmp_path, "Artifact")
    found = look_up(tmp_path, "name", "metadata.name", "metadata.a.b", "pack_size", "metadata.pack_size", "iteration")
    assert found == {
        "name": "data",
        "metadata.name": "inner",
        "metadata.a.b": 1,
        "pack_size": 8,
        "metadata.pack_size": 8,
        "iteration": 5,
    }


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("rwos", "data:v0 has no field 'rwos'; allowed: path, name, type, version, digest, uri, a, .*mean 'rows'"),
        ("metadata.rwos", "data:v0 has no field 'metadata.rwos'; .*mean 'rows'"),
        ("metadata.a.x", "data:v0 has no field 'metadata.a.x'"),
        ("metadata.tags.2", "data:v0 has no field 'metadata.tags.2'"),
        ("metadata.rows.x", "data:v0 has no field 'metadata.rows.x'"),
        ("iteration", "data:v0 has no field 'iteration'"),
        ("''", "data:v0 has no field ''"),
    ],
)
def test_a_field_that_there_is_not_is_told_with_those_there_are(
    field: str, said: str, store: ArtifactStore, tmp_path: Path
) -> None:
    publish(store, tmp_path, "Artifact")
    with pytest.raises(ConfigError, match=rf"\$\{{art:data,.*\}}: {said}"):
        look_up(tmp_path, field)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("{data: [a]}", r"\$\{art:data\}: run\.data = \['a'\] is a list; expected text"),
        ("{data: 3}", r"\$\{art:data\}: run\.data = 3 is a number; expected text"),
        ("{dta: a}", r"\$\{art:data\}: run\.data is not set; have: dta\. Did you mean 'dta'"),
        ("{data: null}", r"\$\{art:data\}: run\.data is not set; have: none"),
        ("x", r"\$\{art:data\}: run\.data is not set; have: none"),
    ],
)
def test_a_slot_without_a_reference_is_refused(run: str, said: str, store: ArtifactStore, tmp_path: Path) -> None:
    del store
    (tmp_path / "train.yaml").write_text(f"run: {run}\nx: ${{art:data}}\n")
    with pytest.raises(ConfigError, match=said):
        load_train_config(tmp_path / "train.yaml")


def test_a_reference_may_come_from_a_variable(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, tmp_path, "Artifact")
    monkeypatch.setenv("WHICH", "data:v0")
    (tmp_path / "train.yaml").write_text("run: {data: '${oc.env:WHICH}'}\nx: ${art:data,version}\n")
    assert load_train_config(tmp_path / "train.yaml")["x"] == "v0"
