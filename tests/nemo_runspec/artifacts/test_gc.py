"""Garbage is what no version refers to: all of it goes, and nothing else."""

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from store_publisher import Publisher, objects, overwrite

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.artifacts.durable import scratch_directory
from nemo_runspec.artifacts.gc import collect_garbage, find_garbage, linked_parts
from nemo_runspec.artifacts.posix_backend import PosixWriter
from nemo_runspec.errors import ArtifactCorrupted, StoreError


def give_up(store: ArtifactStore, ref: ArtifactRef) -> Path:
    """Remove the version's record; it returns the path, which is gone."""
    path = store.path / "artifacts" / ref.name / "versions" / f"{ref.version}.json"
    path.unlink()
    return path


def tree(root: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_ino) for path in root.rglob("*"))


def kinds(store: ArtifactStore) -> list[str]:
    return [garbage.kind for garbage in find_garbage(store)]


def test_what_versions_refer_to_is_no_garbage(publish: Publisher, store: ArtifactStore) -> None:
    store.materialize(publish({"a": "x", "b/c": "y"}, aliases=["best"]))
    assert collect_garbage(store, wait_s=0) == []


def test_all_that_a_removed_version_had_is_garbage(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "x", "b/c": "y"})
    store.materialize(ref)
    give_up(store, ref)
    assert kinds(store) == ["object", "object", "manifest", "checkout"]


def test_what_another_version_refers_to_as_well_stays(publish: Publisher, store: ArtifactStore) -> None:
    kept, gone = publish({"a": "shared", "b": "x"}), publish({"a": "shared", "b": "y"})
    give_up(store, gone)
    collect_garbage(store, wait_s=0)
    store.verify(kept)
    assert sorted(path.read_text() for path in objects(store)) == ["shared", "x"]


def test_what_killed_processes_left_goes_at_any_age(publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "x"})
    (store.path / "tmp" / "killed" / "deep").mkdir(parents=True)
    (store.path / "tmp" / "killed" / "deep" / "half").write_text("half")
    assert [(garbage.kind, garbage.num_bytes) for garbage in collect_garbage(store, wait_s=0)] == [("leftover", 4)]
    assert list((store.path / "tmp").iterdir()) == []


def test_bytes_are_those_that_get_free(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "x" * 1000})
    store.materialize(ref)
    os.link(objects(store)[0], store.path.parent / "mine")
    give_up(store, ref)
    manifest = store.path / "manifests"
    freed = sum(path.stat().st_size for path in manifest.rglob("*.json"))
    assert sum(garbage.num_bytes for garbage in find_garbage(store)) == freed


def test_a_checkout_and_its_object_count_once(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "x" * 1000, "b": "x" * 1000})
    store.materialize(ref)
    give_up(store, ref)
    assert [garbage.num_bytes for garbage in find_garbage(store) if garbage.kind != "manifest"] == [1000, 0]


def age(path: Path, age_s: float) -> None:
    os.utime(path, (time.time() - age_s,) * 2)


def test_only_what_is_older_than_the_grace_period_is_garbage(publish: Publisher, store: ArtifactStore) -> None:
    give_up(store, publish({"a": "old", "b": "young"}))
    old, young = sorted(objects(store), key=lambda path: len(path.read_text()))
    age(old, 101)
    age(young, 50)
    found = collect_garbage(store, wait_s=0, grace_s=100)
    assert [Path(store.location, garbage.key) for garbage in found] == [old]
    assert objects(store) == [young]


def test_an_old_content_that_a_new_version_refers_to_stays(publish: Publisher, store: ArtifactStore) -> None:
    give_up(store, publish({"a": "x"}))
    age(objects(store)[0], 1000)
    ref = publish({"a": "x"}, name="again")
    assert collect_garbage(store, wait_s=0, grace_s=100) == []
    store.verify(ref)


def take_in_elsewhere(store: ArtifactStore, path: Path) -> None:
    """As a publisher does on a host with locks of its own, so that nobody here waits for it."""
    with scratch_directory(store.path) as scratch:
        PosixWriter(store.path, scratch).take_in(path, "blake3")


def test_an_old_content_that_is_being_taken_up_on_another_host_stays(publish: Publisher, store: ArtifactStore) -> None:
    give_up(store, publish({"a": "x"}))
    age(objects(store)[0], 1000)
    take_in_elsewhere(store, publish.write({"a": "x"}) / "a")
    collect_garbage(store, wait_s=0, grace_s=100)
    assert len(objects(store)) == 1


def test_what_is_taken_up_on_another_host_after_it_was_listed_stays(publish: Publisher, store: ArtifactStore) -> None:
    give_up(store, publish({"a": "x"}))
    age(objects(store)[0], 1000)
    (found,) = find_garbage(store, grace_s=100)  # the manifest is young
    take_in_elsewhere(store, publish.write({"a": "x"}) / "a")
    assert not store.backend.delete(found.key, unless_since=time.time() - 100)
    assert len(objects(store)) == 1


def test_an_old_content_of_another_user_is_replaced_where_it_is_taken_up(
    publish: Publisher, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "as for a file of another user")

    publish({"a": "x"})
    (kept,) = objects(store)
    age(kept, 1000)
    monkeypatch.setattr(os, "utime", refuse)
    publish({"a": "x"})
    assert kept.stat().st_mtime > time.time() - 100
    assert kept.read_text() == "x"


@pytest.mark.parametrize("key", ["mirrors/wandb/data/v0", f"attest/{'0' * 64}"])
def test_notes_stay_even_if_the_version_goes(key: str, publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "x"})
    store.add_note(key, {"number": 1})
    give_up(store, ref)
    assert {garbage.kind for garbage in collect_garbage(store, wait_s=0)} == {"object", "manifest"}
    assert store.newest_note(key) == {"number": 1}


def test_looking_changes_nothing(publish: Publisher, store: ArtifactStore) -> None:
    give_up(store, publish({"a": "x"}))
    (store.path / "gc.lock").unlink()
    before = tree(store.path)
    assert find_garbage(store) != []
    assert tree(store.path) == before


@pytest.mark.parametrize("work", [find_garbage, lambda store: collect_garbage(store, wait_s=0)])
def test_a_store_that_is_not_there_has_no_garbage(
    work: Callable[[ArtifactStore], list[object]], tmp_path: Path
) -> None:
    assert work(ArtifactStore(tmp_path / "store")) == []
    assert list(tmp_path.iterdir()) == []


def test_an_empty_store_has_no_garbage(store: ArtifactStore) -> None:
    store.check_writable()
    assert collect_garbage(store, wait_s=0) == []


def test_a_directory_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "mine").write_text("x")
    assert collect_garbage(ArtifactStore(tmp_path), wait_s=0) == []
    assert (tmp_path / "tmp" / "mine").exists()


def test_referenced_files_are_never_touched(publish: Publisher, store: ArtifactStore) -> None:
    kept, gone = publish({"a": "x"}, policy="reference"), publish({"a": "y"}, policy="reference")
    give_up(store, gone)
    before = tree(publish.sources)
    assert [garbage.kind for garbage in collect_garbage(store, wait_s=0)] == ["manifest"]
    assert tree(publish.sources) == before
    store.verify(kept)


@pytest.mark.parametrize("content", [b"", b"{}", b"{", b"\xff"], ids=repr)
def test_a_record_that_cannot_be_read_stops_it(content: bytes, publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "x"})
    path = store.path / "artifacts" / "data" / "versions" / "v0.json"
    overwrite(path, content)
    give_up(store, publish({"a": "y"}, name="gone"))
    with pytest.raises(ArtifactCorrupted, match=rf"{ref}: {path} is not a version record; .*; nothing was deleted: "):
        collect_garbage(store, wait_s=0)
    assert len(objects(store)) == 2


def test_a_record_that_is_a_broken_link_stops_it(publish: Publisher, store: ArtifactStore) -> None:
    give_up(store, publish({"a": "x"})).symlink_to("nowhere")
    with pytest.raises(ArtifactCorrupted, match=r"reading data:v0 failed .*; nothing was deleted"):
        collect_garbage(store, wait_s=0)


def test_a_manifest_that_cannot_be_read_stops_it(publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "x"})
    shutil.rmtree(store.path / "manifests")
    with pytest.raises(
        ArtifactCorrupted, match=r"data:v0: manifest: expected .*, got no such file .*; nothing was del"
    ):
        collect_garbage(store, wait_s=0)
    assert len(objects(store)) == 1


@pytest.mark.parametrize("part", ["artifacts", "artifacts/data", "artifacts/data/versions"])
def test_records_on_a_disk_that_is_away_stop_it(part: str, publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "x"})
    (store.path / part).rename(store.path.parent / "disk")
    (store.path / part).symlink_to(store.path.parent / "not-mounted")
    with pytest.raises(StoreError, match=rf"looking for garbage failed \({store.path}/{part}\): No such file"):
        collect_garbage(store, wait_s=0)
    assert len(objects(store)) == 1


def test_records_behind_a_link_count(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "x"})
    (store.path / "artifacts").rename(store.path.parent / "disk")
    (store.path / "artifacts").symlink_to(store.path.parent / "disk")
    assert collect_garbage(store, wait_s=0) == []
    store.verify(ref)


@pytest.mark.parametrize("part", ["objects", "manifests", "checkouts", "tmp"])
def test_a_part_behind_a_link_is_left_alone_and_told(part: str, publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "x"})
    store.materialize(ref)
    give_up(store, ref)
    disk = store.path.parent / "disk"
    (store.path / part).rename(disk)
    (disk / "left").mkdir()
    (store.path / part).symlink_to(disk)
    before = tree(disk)
    collect_garbage(store, wait_s=0)
    assert tree(disk) == before
    assert linked_parts(store) == [store.path / part]


def test_a_link_among_the_leftovers_goes_but_not_what_it_leads_to(publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "x"})
    mine = store.path.parent / "mine"
    mine.mkdir()
    (mine / "a").write_text("x")
    (store.path / "tmp" / "link").symlink_to(mine)
    (store.path / "tmp" / "half").mkdir()
    (store.path / "tmp" / "half" / "link").symlink_to(mine)
    collect_garbage(store, wait_s=0)
    assert list((store.path / "tmp").iterdir()) == []
    assert (mine / "a").exists()


def test_files_that_are_not_the_stores_stay(publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "x"})
    for place in ("objects", "objects/blake3", "manifests/sha256", "artifacts", "artifacts/data", "."):
        (store.path / place / "README").write_text("mine")
    (store.path / "checkouts" / "mine").mkdir(parents=True)
    assert collect_garbage(store, wait_s=0) == []


def test_a_store_that_cannot_be_written_is_told(mount_disk: Callable[[str], Path], tmp_path: Path) -> None:
    store = ArtifactStore(mount_disk("size=1m") / "store")
    give_up(store, Publisher(store, tmp_path / "sources")({"a": "x"}))
    mount_disk("remount,ro")
    assert len(find_garbage(store)) == 2
    with pytest.raises(StoreError, match=r"deleting garbage failed \(.*gc\.lock\): Read-only file system; make it a"):
        collect_garbage(store, wait_s=0)
