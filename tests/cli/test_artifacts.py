import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, Producer
from nemo_runspec.errors import ArtifactCorrupted, ArtifactError, ArtifactNotFound
from nemo_runspec.mirror.pins import WandbPin, add_pin
from nemotron.cli.artifact_tables import block_lines, key_metadata
from nemotron.cli.artifacts import app

PRODUCER = Producer(run_id="run-7", stage="prep", fingerprint="f0", host="node1", created="2026-11-24T08:45:09+00:00")
SOURCES = [{"name": "alice", "uri": "/texts/alice.txt", "size_bytes": 9, "sha256": "ab" * 32}]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    monkeypatch.setenv("NEMOTRON_STORE", str(tmp_path / "store"))
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def publish(store: ArtifactStore, tmp_path: Path) -> Callable[..., ArtifactRef]:
    def publish_text(text: str = "x", *, name: str = "data", type: str = "DataArtifact", **more: Any) -> ArtifactRef:
        path = tmp_path / "sources" / f"{name}-{text}" / "a"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        return store.publish(path.parent, name=name, type=type, producer=PRODUCER, **{"metadata": {}, **more})

    return publish_text


@pytest.fixture
def chain(publish: Callable[..., ArtifactRef]) -> tuple[ArtifactRef, ArtifactRef]:
    """A data set of one source, and a model made of it."""
    data = publish(metadata={"total_tokens": 1234, "source_datasets": SOURCES}, aliases=["best"])
    model = publish(
        name="model", type="ModelArtifact", metadata={"valid_loss": 3.9958}, inputs=[data], policy="reference"
    )
    return data, model


def run(*args: str) -> int:
    """The exit code; errors come through."""
    code = app(args, standalone_mode=False)
    return code if isinstance(code, int) else 0


def run_json(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    assert run(*args, "--json") == 0
    return json.loads(capsys.readouterr().out)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]


def test_names_are_listed_with_their_newest_version(
    publish: Callable[..., ArtifactRef], capsys: pytest.CaptureFixture[str]
) -> None:
    publish(aliases=["old"])
    publish("yy", aliases=["best"])
    run("list")
    _, header, _, row, _ = capsys.readouterr().out.splitlines()
    assert cells(header) == ["newest", "type", "versions", "aliases", "made by", "created (UTC)", "size"]
    assert cells(row) == [
        "data:v1",
        "DataArtifact",
        "2",
        "best=v1, old=v0",
        "prep, run-7",
        "2026-11-24 08:45",
        "2 bytes",
    ]


@pytest.mark.usefixtures("chain")
def test_names_are_listed_as_json(store: ArtifactStore, capsys: pytest.CaptureFixture[str]) -> None:
    document = run_json(capsys, "list")
    assert document["store"] == str(store.path)
    assert document["artifacts"][0] == {
        "name": "data",
        "newest": "v0",
        "type": "DataArtifact",
        "num_versions": 1,
        "aliases": {"best": "v0"},
        "stage": "prep",
        "run_id": "run-7",
        "created": "2026-11-24T08:45:09+00:00",
        "num_bytes": 1,
    }
    assert [artifact["name"] for artifact in document["artifacts"]] == ["data", "model"]


@pytest.mark.usefixtures("chain")
def test_only_a_type_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    document = run_json(capsys, "list", "--type", "ModelArtifact")
    assert [artifact["name"] for artifact in document["artifacts"]] == ["model"]


@pytest.mark.usefixtures("chain")
def test_an_unknown_type_is_told_with_the_closest(store: ArtifactStore) -> None:
    message = (
        f"--type 'ModelArtefact': none in {store.path}; have: DataArtifact, ModelArtifact. "
        "Did you mean 'ModelArtifact'?"
    )
    with pytest.raises(ArtifactError, match=f"^{re.escape(message)}$"):
        run("list", "--type", "ModelArtefact")


def test_versions_of_a_name_are_listed(publish: Callable[..., ArtifactRef], capsys: pytest.CaptureFixture[str]) -> None:
    publish(metadata={"valid_loss": 3.25, "step": 60, "other": "[red]"}, aliases=["best", "prod"])
    publish("yy")
    run("list", "data")
    _, _, _, first, second, _ = capsys.readouterr().out.splitlines()
    assert cells(first)[:4] == ["v0", "DataArtifact", "best, prod", "valid_loss 3.250, step 60"]
    assert cells(second)[:4] == ["v1", "DataArtifact", "", ""]


def test_versions_of_a_name_are_listed_as_json(
    chain: tuple[ArtifactRef, ArtifactRef], capsys: pytest.CaptureFixture[str]
) -> None:
    (version,) = run_json(capsys, "list", "model")["versions"]
    digest = chain[1].digest
    assert version == {
        "name": "model", "version": "v0", "type": "ModelArtifact", "digest": digest, "policy": "reference",
        "aliases": [], "stage": "prep", "run_id": "run-7", "fingerprint": "f0", "host": "node1",
        "created": "2026-11-24T08:45:09+00:00", "inputs": ["data:v0"], "metadata": {"valid_loss": 3.9958},
        "num_files": 1, "num_bytes": 1,
    }  # fmt: skip


@pytest.mark.usefixtures("chain")
def test_an_unknown_name_is_told_with_the_closest() -> None:
    with pytest.raises(ArtifactNotFound, match=r"no artifact 'modle' in .* Did you mean 'model'\?"):
        run("list", "modle")


def test_a_store_that_is_not_there_is_told_and_not_made(
    store: ArtifactStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("list") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"note: no artifacts in {store.path}; run nemotron nano3 pipe")
    assert not store.path.exists()


def test_a_store_that_is_not_there_is_an_empty_list_as_json(
    store: ArtifactStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_json(capsys, "list") == {"store": str(store.path), "artifacts": []}


@pytest.mark.usefixtures("chain")
def test_a_version_that_cannot_be_read_does_not_hide_the_others(
    store: ArtifactStore, capsys: pytest.CaptureFixture[str]
) -> None:
    path = store.path / "artifacts" / "data" / "versions" / "v0.json"
    path.chmod(0o644)
    path.write_text("{")
    assert run("list") == 0
    out, err = capsys.readouterr()
    assert "model:v0" in out
    assert err.startswith(f"note: data:v0: {path} is not a version record")


@pytest.mark.usefixtures("chain")
def test_the_store_option_wins(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFound, match=f"no artifact 'data' in {tmp_path}/other; have: none"):
        run("show", "data", "--store", str(tmp_path / "other"))


def test_the_store_is_the_projects_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NEMOTRON_STORE", raising=False)
    (tmp_path / "env.toml").touch()
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert run_json(capsys, "list")["store"] == str(tmp_path / ".nemotron" / "artifacts")


def test_all_that_is_known_of_a_version_is_shown(
    chain: tuple[ArtifactRef, ArtifactRef], capsys: pytest.CaptureFixture[str]
) -> None:
    run("show", "data:best")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:12] == [
        "artifact     data:v0",
        "type         DataArtifact",
        "aliases      best",
        f"digest       {chain[0].digest}",
        "policy       copy, the store has the contents",
        "made by      prep, run run-7, on node1, 2026-11-24T08:45:09+00:00",
        "fingerprint  f0",
        "inputs       none",
        "files        1, 1 byte",
        "directory    none yet: it is made when a stage first reads them",
        "metadata",
        f"    source_datasets: {json.dumps(chain[0].metadata['source_datasets'])}",
    ]
    assert cells(lines[-2])[:2] == ["a", "1 byte"]


@pytest.mark.usefixtures("chain")
def test_a_version_is_shown_as_json_with_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = run_json(capsys, "show", "model")
    path = tmp_path / "sources" / "model-x" / "a"
    digest = document["files"][0]["digest"]
    assert document["files"] == [{"path": "a", "num_bytes": 1, "digest": digest, "location": str(path)}]
    assert (document["directory"], document["inputs"], document["policy"]) == (
        str(path.parent),
        ["data:v0"],
        "reference",
    )


def test_where_a_version_is_on_wandb_is_shown(
    chain: tuple[ArtifactRef, ArtifactRef], store: ArtifactStore, capsys: pytest.CaptureFixture[str]
) -> None:
    pin = WandbPin(server="http://wandb.lab", qualified_name="team/nano3/model:v7", digest="d")
    add_pin(store, chain[1], pin)

    run("show", "model")

    assert "on W&B       team/nano3/model:v7" in capsys.readouterr().out


def test_where_files_were_set_out_is_shown(
    chain: tuple[ArtifactRef, ArtifactRef], store: ArtifactStore, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = store.materialize(chain[0])
    assert run_json(capsys, "show", "data")["directory"] == str(directory)


def test_of_many_files_the_first_are_shown(
    store: ArtifactStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "many").mkdir()
    for number in range(25):
        (tmp_path / "many" / f"{number:02}").touch()
    store.publish(tmp_path / "many", name="data", type="T", metadata={}, producer=PRODUCER)
    run("show", "data")
    out, err = capsys.readouterr()
    assert "│ 19 " in out
    assert "│ 20 " not in out
    assert err == "note: 5 more files; --json shows all\n"


@pytest.mark.usefixtures("chain")
def test_lineage_goes_down_to_the_source_files(capsys: pytest.CaptureFixture[str]) -> None:
    run("lineage", "model")
    assert capsys.readouterr().out.splitlines() == [
        "model:v0  ModelArtifact  (prep, run-7)",
        "└── data:v0  DataArtifact  (prep, run-7)",
        "    └── alice: /texts/alice.txt  (9 bytes, sha256:abababababab)",
    ]


@pytest.mark.usefixtures("chain")
def test_lineage_as_json_has_nodes_and_edges(capsys: pytest.CaptureFixture[str]) -> None:
    document = run_json(capsys, "lineage", "model")
    assert [(node["kind"], node["id"]) for node in document["nodes"]] == [
        ("artifact", "model:v0"),
        ("artifact", "data:v0"),
        ("source", "/texts/alice.txt"),
    ]
    assert document["edges"] == [
        {"from": "data:v0", "to": "model:v0"},
        {"from": "/texts/alice.txt", "to": "data:v0"},
    ]


@pytest.mark.usefixtures("chain")
def test_an_input_that_was_removed_is_told_so(store: ArtifactStore, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(store.path / "artifacts" / "data")
    node = run_json(capsys, "lineage", "model")["nodes"][1]
    assert (node["id"], node["in_store"], node["stage"]) == ("data:v0", False, None)


@pytest.mark.usefixtures("chain")
def test_what_was_made_from_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    run("lineage", "data", "--down")
    assert capsys.readouterr().out.splitlines()[1:] == ["└── model:v0  ModelArtifact  (prep, run-7)"]


@pytest.mark.usefixtures("chain")
def test_what_was_made_from_it_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    document = run_json(capsys, "lineage", "data", "--down")
    assert document["edges"] == [{"from": "data:v0", "to": "model:v0"}]


@pytest.mark.usefixtures("chain")
def test_versions_that_are_whole_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify") == 0
    first, second, total = capsys.readouterr().out.splitlines()
    compared = "ok   1 file, 1 byte, compared in full"
    assert (first, second) == (f"data:v0   {compared}", f"model:v0  {compared}")
    assert re.fullmatch(r"2 versions, 2 bytes, \d+\.\d s, compared in full: all ok", total)


@pytest.mark.usefixtures("chain")
def test_a_bad_version_is_told_and_the_others_are_looked_at(
    store: ArtifactStore, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = (path for path in (store.path / "objects").rglob("*") if path.is_file())
    path.chmod(0o644)
    path.write_text("z")
    assert run("verify", "data", "model:v0") == 1
    first, second, total = capsys.readouterr().out.splitlines()
    assert re.match(r"data      BAD  data:v0: a: expected blake3:\w+, got blake3:", first)
    assert second.startswith("model:v0  ok")
    assert total.endswith(": 1 bad")


@pytest.mark.usefixtures("chain")
def test_a_record_that_cannot_be_read_is_a_bad_version(
    store: ArtifactStore, capsys: pytest.CaptureFixture[str]
) -> None:
    path = store.path / "artifacts" / "data" / "versions" / "v0.json"
    path.chmod(0o644)
    path.write_text("{")
    assert run("verify") == 1
    assert capsys.readouterr().out.startswith(f"data:v0   BAD  {path} is not a version record")


@pytest.mark.usefixtures("chain")
def test_sizes_alone_do_not_tell_other_contents(store: ArtifactStore, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = (path for path in (store.path / "objects").rglob("*") if path.is_file())
    path.chmod(0o644)
    path.write_text("z")
    assert run("verify", "data", "--level", "stat") == 0
    assert capsys.readouterr().out.endswith("compared by size only: all ok\n")


@pytest.mark.usefixtures("chain")
def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(typer.TyperException, match="'foo' is not one of 'full', 'sampled', 'stat'"):
        run("verify", "--level", "foo")


@pytest.mark.usefixtures("chain")
def test_verifying_what_is_not_there_is_refused() -> None:
    with pytest.raises(ArtifactNotFound, match="no artifact 'dota'"):
        run("verify", "model", "dota")


@pytest.mark.usefixtures("chain")
def test_garbage_is_shown_and_stays(store: ArtifactStore, capsys: pytest.CaptureFixture[str]) -> None:
    (store.path / "tmp" / "half").write_text("half")
    assert run("gc", "--grace-s", "0") == 0
    out, err = capsys.readouterr()
    assert out == "leftover       4 bytes  tmp/half\n1 to delete, 4 bytes to free\n"
    assert err == "note: nothing was deleted; --delete does it\n"
    assert (store.path / "tmp" / "half").exists()


@pytest.mark.usefixtures("chain")
def test_garbage_is_deleted_when_asked(store: ArtifactStore, capsys: pytest.CaptureFixture[str]) -> None:
    (store.path / "tmp" / "half").write_text("half")
    assert run("gc", "--grace-s", "0", "--delete") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "deleted 1, 4 bytes freed"
    assert not (store.path / "tmp" / "half").exists()


@pytest.mark.usefixtures("chain")
@pytest.mark.parametrize(("age_s", "left"), [(3500, ["half"]), (3700, [])])
def test_only_what_is_older_than_an_hour_is_deleted(age_s: int, left: list[str], store: ArtifactStore) -> None:
    half = store.path / "tmp" / "half"
    half.write_text("half")
    os.utime(half, (time.time() - age_s,) * 2)
    assert run("gc", "--delete") == 0
    assert [path.name for path in (store.path / "tmp").iterdir()] == left


@pytest.mark.usefixtures("chain")
def test_a_damaged_store_loses_no_garbage(store: ArtifactStore) -> None:
    shutil.rmtree(store.path / "manifests")
    with pytest.raises(ArtifactCorrupted, match="nothing was deleted"):
        run("gc", "--delete")


@pytest.mark.parametrize("arguments", [["gc"], ["gc", "--delete"], ["verify"], ["list"]])
def test_nothing_is_made_where_there_is_no_store(arguments: list[str], tmp_path: Path) -> None:
    assert run(*arguments, "--store", str(tmp_path / "none")) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_is_too_wide_becomes_a_block_of_lines() -> None:
    columns = ("name", "type", "aliases", "made by")
    assert block_lines(columns, ("data:v0", "DataArtifact", "", "prep, run-7"), width=30) == [
        "data:v0",
        "    type: DataArtifact",
        "    made by: prep, run-7",
    ]


@pytest.mark.parametrize("value", ["3", None, [1], {"a": 1}])
def test_only_numbers_are_key_metadata(value: object) -> None:
    assert key_metadata({"step": value, "total_tokens": 1234567}) == "total_tokens 1,234,567"


def test_importing_the_commands_loads_nothing_heavy() -> None:
    heavy = "{'pydantic', 'rich', 'prefect', 'torch', 'omegaconf'}"
    code = f"import sys; import typer; before = set(sys.modules); import nemotron.cli.artifacts; \
print({heavy} & (set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"
