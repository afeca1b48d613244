"""Versions on a W&B server after a sync: the double, or with `-m wandb_server` a real one."""

import shutil
from pathlib import Path

import pytest
from mirrored_store import MirroredStore, Server, new_project
from wandb_server.server import WandbServerProcess

from nemo_runspec.artifacts.hashing import canonical_json
from nemo_runspec.errors import StoreError
from nemo_runspec.mirror.follower import log_path
from nemo_runspec.mirror.lock import hold
from nemo_runspec.mirror.pins import find_pin
from nemo_runspec.mirror.server import WandbServer
from nemo_runspec.mirror.sync import sync
from nemo_runspec.mirror.wanted import want

FILES = ["a.bin", "sub dir/é#1?.bin"]
MANY = {f"key_{number:03}": number for number in range(150)}


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory, wandb_any: Server) -> MirroredStore:
    """A store of which all was sent at once."""
    mirror = MirroredStore(folder=tmp_path_factory.mktemp("sent"), server=wandb_any, project=new_project())
    mirror.publish("data", files=FILES, metadata={"total_tokens": 7}, aliases=["best"])
    mirror.publish("model", files=["iter_1/weights"], metadata={"iteration": 1}, policy="reference")
    mirror.publish("twice")
    mirror.publish("twice")
    mirror.publish("rich", metadata=MANY)
    mirror.publish("own", files=["metadata.json"], policy="reference")
    assert mirror.sync().failed == {}
    return mirror


def test_a_version_is_pinned_to_what_the_server_has(sent: MirroredStore) -> None:
    pin = find_pin(sent.store, sent.store.resolve("data"), sent.wandb)
    assert pin is not None
    assert pin.qualified_name == f"{sent.place}/data:v0"
    assert pin.digest == sent.collection("data")["versions"]["v0"]["digest"]
    assert (pin.server, pin.run_path) == (sent.server.url, f"{sent.place}/run-1-make-data")
    assert pin.run_url is not None
    assert pin.run_url.endswith(f"{sent.place}/runs/run-1-make-data")
    assert pin.artifact_url is not None
    assert pin.artifact_url.endswith(f"{sent.place}/artifacts/DataArtifact/data/v0")


def test_a_version_has_the_aliases_of_the_store_and_latest(sent: MirroredStore) -> None:
    assert sent.collection("data")["aliases"] == {"latest": "v0", "best": "v0"}


def test_the_metadata_say_what_the_version_is_in_which_store(sent: MirroredStore) -> None:
    ref = sent.store.resolve("data")
    assert sent.collection("data")["versions"]["v0"]["metadata"] == {
        "total_tokens": 7,
        "store_uri": Path(sent.store.location).as_uri(),
        "nemotron_ref": "data:v0",
        "nemotron_digest": ref.digest,
        "nemotron_manifest": sent.store.record(ref).manifest,
    }


def test_copied_files_are_references_to_the_store_under_their_names(sent: MirroredStore) -> None:
    entries = sent.collection("data")["versions"]["v0"]["entries"]
    assert entries.keys() == {*FILES, "metadata.json", "nemotron/manifest.json", "nemotron/record.json"}
    kept = sent.store.manifest(sent.store.resolve("data")).entries
    assert {entry.path: (entries[entry.path]["ref"], entries[entry.path]["size"]) for entry in kept} == {
        entry.path: (sent.store.backend.object_uri(entry.digest), entry.size) for entry in kept
    }


def test_a_referenced_version_points_to_its_files_where_they_lie(sent: MirroredStore) -> None:
    version = sent.collection("model")["versions"]["v0"]
    assert version["metadata"]["absolute_path"] == str(sent.folder / "model")
    assert version["metadata"]["iteration"] == 1
    assert version["entries"]["iter_1/weights"]["ref"] == (sent.folder / "model" / "iter_1" / "weights").as_uri()


def test_the_run_is_that_of_the_stage_and_finished(sent: MirroredStore) -> None:
    run = sent.run("make-data")
    producer = sent.store.record(sent.store.resolve("data")).producer
    assert [run[key] for key in ("name", "group", "job_type", "state")] == [
        "make-data run-1",
        "run-1",
        "make-data",
        "finished",
    ]
    assert (run["used"], run["logged"]) == ([], ["data:v0"])
    assert run["config"] == {
        "pipeline_run": "run-1",
        "stage": "make-data",
        "fingerprint": "f-make-data",
        "host": producer.host,
        "created": producer.created,
    }


def test_equal_files_of_two_versions_are_two_versions(sent: MirroredStore) -> None:
    versions = sent.collection("twice")["versions"]
    refs = {version: facts["metadata"]["nemotron_ref"] for version, facts in versions.items()}
    assert refs == {"v0": "twice:v0", "v1": "twice:v1"}


def test_metadata_of_more_keys_than_wandb_takes_is_whole_in_a_file(sent: MirroredStore) -> None:
    version = sent.collection("rich")["versions"]["v0"]
    assert len(version["metadata"]) == 100
    assert version["metadata"]["nemotron_ref"] == "rich:v0"
    assert version["entries"]["metadata.json"]["size"] == len(canonical_json(MANY))


def test_a_metadata_file_of_the_artifact_s_own_is_kept(sent: MirroredStore) -> None:
    entry = sent.collection("own")["versions"]["v0"]["entries"]["metadata.json"]
    assert entry["ref"] == (sent.folder / "own" / "metadata.json").as_uri()


def test_another_process_uses_by_alias_what_was_sent(sent: MirroredStore) -> None:
    told = sent.client("use", "data:best")
    assert told["used"] == f"{sent.place}/data:v0"
    assert told["metadata"]["total_tokens"] == 7
    assert told["logged_by"] == "run-1-make-data"
    assert told["used_by"] == ["use"]


def test_a_second_sync_asks_the_server_nothing(sent: MirroredStore) -> None:
    without_key = WandbServer(base_url=sent.server.url)
    report = sent.sync(server=without_key)
    assert (report.synced, report.failed, len(report.already_there)) == ({}, {}, 6)


def test_a_version_whose_pin_was_lost_is_found_again(mirrored: MirroredStore) -> None:
    ref = mirrored.publish("data", aliases=["best"])
    first = mirrored.sync().synced["data:v0"]
    for note in (mirrored.folder / "store" / "mirrors" / "wandb" / "data").rglob("*.json"):
        note.unlink()
    second = mirrored.sync(ref).synced["data:v0"]
    assert (second.qualified_name, second.digest) == (first.qualified_name, first.digest)
    assert list(mirrored.collection("data")["versions"]) == ["v0"]


def test_an_alias_that_was_moved_is_moved_there(mirrored: MirroredStore) -> None:
    _, second = mirrored.publish("data", aliases=["best"]), mirrored.publish("data")
    mirrored.sync()
    mirrored.store.set_alias(second, "best")
    assert mirrored.sync().failed == {}
    assert mirrored.collection("data")["aliases"] == {"latest": "v1", "best": "v1"}


@pytest.mark.slow
def test_an_alias_that_was_moved_back_after_a_crash_is_moved_back_there(mirrored: MirroredStore) -> None:
    first = mirrored.publish("data", aliases=["best"])
    mirrored.sync()
    second = mirrored.publish("data", aliases=["best"])
    mirrored.sync(second)
    notes = mirrored.folder / "store" / "mirrors" / "wandb" / "data" / "aliases"
    max(notes.iterdir()).unlink()  # as if the sync had been killed before it noted the alias
    mirrored.store.set_alias(first, "best")
    mirrored.sync()
    assert mirrored.collection("data")["aliases"] == {"latest": "v1", "best": "v0"}


def test_an_alias_that_means_nothing_there_any_more_is_taken_away(mirrored: MirroredStore) -> None:
    mirrored.publish("data", aliases=["best", "old"])
    mirrored.sync()
    mirrored.store.set_alias(mirrored.publish("data", mirrored=False), "best")
    mirrored.sync()
    assert mirrored.collection("data")["aliases"] == {"latest": "v0", "old": "v0"}


def test_metrics_are_sent_with_the_version_and_stay_as_they_are(mirrored: MirroredStore) -> None:
    metrics = mirrored.folder / "metrics.jsonl"
    metrics.write_text("".join(f'{{"step": {step}, "loss": {4.0 / step}, "time": 1.0}}\n' for step in (1, 2)))
    mirrored.publish("model", metrics=metrics)
    assert mirrored.sync().failed == {}
    run = mirrored.run("make-model")
    assert [(row["_step"], row["loss"]) for row in run["history"]] == [(1, 4.0), (2, 2.0)]
    assert (run["summary"]["loss"], run["state"], run["logged"]) == (2.0, "finished", ["model:v0"])


def test_a_damaged_alias_is_told_and_holds_up_no_other_name(mirrored: MirroredStore) -> None:
    mirrored.publish("data")
    mirrored.publish("other", aliases=["best"])
    (alias,) = (mirrored.folder / "store" / "artifacts" / "other" / "aliases" / "best").iterdir()
    alias.chmod(0o644)
    alias.write_text("{")
    report = mirrored.sync()
    assert list(report.synced) == ["data:v0"]
    assert list(report.failed) == ["other:v0", "aliases of other"]


def test_metrics_that_cannot_be_sent_hold_up_no_version(doubled: MirroredStore) -> None:
    metrics = doubled.folder / "metrics.jsonl"
    metrics.write_text('{"step": 1}\n')
    log_path(metrics).mkdir()
    doubled.publish("model", metrics=metrics)
    report = doubled.sync()
    assert list(report.synced) == ["model:v0"]
    assert "Is a directory" in report.failed["metrics of model:v0"]


def test_a_store_that_cannot_keep_pins_is_told_before_anything_is_sent(doubled: MirroredStore) -> None:
    doubled.publish("data")
    shutil.rmtree(doubled.folder / "store" / "tmp")
    (doubled.folder / "store" / "tmp").write_text("")
    with pytest.raises(StoreError):
        doubled.sync()
    assert doubled.state()["collections"] == {}


def test_a_version_is_in_two_projects_with_its_aliases(doubled: MirroredStore) -> None:
    data = doubled.publish("data", aliases=["best"])
    other = MirroredStore(folder=doubled.folder, server=doubled.server, project=new_project())
    want(doubled.store, data, other.target("make-data"))
    assert doubled.sync().failed == {}
    doubled.store.set_alias(data, "good")
    assert doubled.sync().failed == {}
    aliases = {"latest": "v0", "best": "v0", "good": "v0"}
    assert [mirror.collection("data")["aliases"] for mirror in (doubled, other)] == [aliases, aliases]


def test_a_wait_for_another_sender_is_told(doubled: MirroredStore) -> None:
    doubled.publish("data")
    lines: list[str] = []
    lock = doubled.folder / "store" / "mirrors" / f"wandb-{doubled.wandb.slug}.lock"
    with hold(lock, timeout_s=1.0):
        report = sync(doubled.store, doubled.wandb, timeout_s=20.0, report=lines.append)
    assert lines[0] == f"data:v0: waiting for another process that sends to {doubled.server.url}"
    assert "another process still logs to W&B" in report.failed["data:v0"]


def test_latest_stays_with_the_newest_version_when_an_older_one_is_sent_later(mirrored: MirroredStore) -> None:
    older, newer = mirrored.publish("data"), mirrored.publish("data")
    mirrored.sync(newer)
    assert mirrored.newest("data") == "data:v1"
    mirrored.sync(older)
    assert mirrored.newest("data") == "data:v1"


def test_an_input_made_before_there_was_a_mirror_is_there_with_a_run_of_its_own(mirrored: MirroredStore) -> None:
    data = mirrored.publish("data", stage="prepare", mirrored=False)
    model = mirrored.publish("model", stage="pretrain", inputs=[data])
    assert list(mirrored.sync(model).synced) == ["data:v0", "model:v0"]
    assert mirrored.run("prepare")["logged"] == mirrored.run("pretrain")["used"] == ["data:v0"]


def test_an_input_that_was_deleted_there_is_left_out_and_told(mirrored: MirroredStore) -> None:
    data = mirrored.publish("data")
    mirrored.sync()
    mirrored.client("delete", "data:v0")
    model = mirrored.publish("model", inputs=[data])
    lines: list[str] = []
    report = sync(mirrored.store, mirrored.wandb, report=lines.append)
    assert list(report.synced) == [str(model)]
    assert lines[0] == f"model:v0: W&B has no {mirrored.place}/data:v0 any more, so its use is not shown there"


@pytest.mark.slow
def test_a_store_is_mirrored_to_two_servers(doubled: MirroredStore, second_double: WandbServerProcess) -> None:
    ref = doubled.publish("data")
    doubled.sync()
    other = MirroredStore(folder=doubled.folder, server=second_double, project=doubled.project)
    other.publish("data")
    assert list(other.sync().synced) == ["data:v1"]
    assert [list(mirror.collection("data")["versions"]) for mirror in (doubled, other)] == [["v0"], ["v0"]]
    assert find_pin(doubled.store, ref, doubled.wandb) is not None
    assert find_pin(doubled.store, ref, other.wandb) is None


@pytest.mark.slow
def test_ten_thousand_files_are_sent(doubled: MirroredStore) -> None:
    files = [f"{number % 100}/{number}" for number in range(10_000)]
    doubled.publish("data", files=files, policy="reference")
    assert list(doubled.sync().synced) == ["data:v0"]
    entries = doubled.collection("data")["versions"]["v0"]["entries"]
    assert {path for path, entry in entries.items() if "ref" in entry} == set(files)
