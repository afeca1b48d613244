"""Damaged contents: found by checking, mended by publishing again."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from store_publisher import Publisher, objects, overwrite

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.artifacts.refs import Policy
from nemo_runspec.errors import ArtifactCorrupted

Damage = Callable[[Path], None]
NEXT = "rerun the stage that made it with --refresh"


def flip(path: Path) -> None:
    overwrite(path, b"X" + path.read_bytes()[1:])


def truncate(path: Path) -> None:
    overwrite(path, path.read_bytes()[:-1])


DAMAGES = [flip, truncate, Path.unlink]
FOUND_BY_STAT = [truncate, Path.unlink]


def content_of(store: ArtifactStore, ref: ArtifactRef) -> Path:
    """Where the only file's bytes are: in the store, or where they were published."""
    kept = objects(store)
    return kept[0] if kept else store.materialize(ref) / "deep" / "a"


@pytest.mark.parametrize("policy", ["copy", "reference"])
@pytest.mark.parametrize("level", ["full", "stat"])
def test_whole_contents_pass(
    level: Literal["full", "stat"], policy: Policy, publish: Publisher, store: ArtifactStore
) -> None:
    store.verify(publish({"deep/a": "hello", "b": ""}, policy=policy), level)


@pytest.mark.parametrize("policy", ["copy", "reference"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_full_check_finds_any_damage(
    damage: Damage, policy: Policy, publish: Publisher, store: ArtifactStore
) -> None:
    ref = publish({"deep/a": "hello"}, policy=policy)
    damage(content_of(store, ref))
    with pytest.raises(ArtifactCorrupted, match=f"^data:v0: deep/a: expected .*, got .*; {NEXT}$"):
        store.verify(ref)


@pytest.mark.parametrize("policy", ["copy", "reference"])
@pytest.mark.parametrize("damage", FOUND_BY_STAT)
def test_a_quick_check_finds_a_short_or_missing_file(
    damage: Damage, policy: Policy, publish: Publisher, store: ArtifactStore
) -> None:
    ref = publish({"deep/a": "hello"}, policy=policy)
    damage(content_of(store, ref))
    with pytest.raises(ArtifactCorrupted, match=f"^data:v0: deep/a: expected 5 bytes, got .*; {NEXT}$"):
        store.verify(ref, "stat")


def test_a_quick_check_does_not_read_what_is_kept(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"deep/a": "hello"})
    flip(content_of(store, ref))
    store.verify(ref, "stat")


def test_a_quick_check_reads_a_referenced_file_that_was_touched(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"deep/a": "hello"}, policy="reference")
    flip(content_of(store, ref))
    with pytest.raises(ArtifactCorrupted, match=r"data:v0: deep/a: expected blake3:.*, got blake3:"):
        store.verify(ref, "stat")


def test_a_referenced_file_that_was_only_touched_passes(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"deep/a": "hello"}, policy="reference")
    os.utime(content_of(store, ref), ns=(1, 1))
    store.verify(ref, "stat")


@pytest.mark.parametrize("policy", ["copy", "reference"])
@pytest.mark.parametrize("damage", FOUND_BY_STAT)
def test_damaged_contents_are_not_given_out(
    damage: Damage, policy: Policy, publish: Publisher, store: ArtifactStore
) -> None:
    ref = publish({"deep/a": "hello"}, policy=policy)
    damage(content_of(store, ref))
    with pytest.raises(ArtifactCorrupted, match="data:v0: deep/a: expected 5 bytes"):
        store.materialize(ref)


def test_the_message_says_which_file_and_how_it_differs(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"deep/a": "hello"})
    path = content_of(store, ref)
    truncate(path)
    message = f"data:v0: deep/a: expected 5 bytes, got 4 bytes ({path}); {NEXT}"
    with pytest.raises(ArtifactCorrupted, match=f"^{re.escape(message)}$"):
        store.verify(ref)


@pytest.mark.parametrize("damage", DAMAGES)
def test_publishing_again_mends_the_older_version_too(damage: Damage, publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"deep/a": "hello"})
    damage(content_of(store, ref))
    publish({"deep/a": "hello"})
    store.verify(ref)


@pytest.mark.parametrize("damage", DAMAGES)
def test_files_set_out_before_are_mended_too(damage: Damage, publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"deep/a": "hello", "b": "x"})
    path = store.materialize(ref) / "deep" / "a"
    damage(path)
    publish({"deep/a": "hello"})
    assert store.materialize(ref) / "deep" / "a" == path
    assert path.read_text() == "hello"


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.rename(path.with_name("b"))], ids=["gone", "moved"])
def test_a_file_gone_from_where_it_was_set_out_is_set_out_again(
    damage: Damage, publish: Publisher, store: ArtifactStore
) -> None:
    ref = publish({"deep/a": "hello"})
    damage(store.materialize(ref) / "deep" / "a")
    assert (store.materialize(ref) / "deep" / "a").read_text() == "hello"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_list_of_files_is_found(damage: Damage, publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "hello"})
    damage(next((store.path / "manifests").rglob("*.json")))
    with pytest.raises(ArtifactCorrupted, match=f"data:v0: manifest: expected sha256:.*, got .*; {NEXT}"):
        store.verify(ref, "stat")


@pytest.mark.parametrize("damage", DAMAGES)
def test_publishing_again_mends_a_damaged_list_of_files(
    damage: Damage, publish: Publisher, store: ArtifactStore
) -> None:
    ref = publish({"a": "hello"})
    damage(next((store.path / "manifests").rglob("*.json")))
    publish({"a": "hello"})
    store.verify(ref)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"ref": 1}'])
def test_a_damaged_record_is_found(content: bytes, publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "hello"})
    overwrite(store.path / "artifacts" / "data" / "versions" / "v0.json", content)
    with pytest.raises(ArtifactCorrupted, match=f"data:v0: .*/v0.json is not a version record; {NEXT}"):
        store.resolve("data")


def test_a_damaged_record_is_passed_over_where_a_version_is_looked_for_and_told(
    publish: Publisher, store: ArtifactStore, caplog: pytest.LogCaptureFixture
) -> None:
    old = publish({"a": "hello"}, fingerprint="f1")
    publish({"a": "bye"}, fingerprint="f2")
    overwrite(store.path / "artifacts" / "data" / "versions" / "v1.json", b"{")
    overwrite(store.path / "made" / "data.json", b"{}")
    assert store.find("data", "f1") == old
    assert re.fullmatch(r"data:v1: .*/v1\.json is not a version record; .*; it is passed over", caplog.messages[0])


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"{}"])
def test_a_damaged_alias_is_found(content: bytes, publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "hello"}, aliases=["best"])
    overwrite(store.path / "artifacts" / "data" / "aliases" / "best" / "v0.json", content)
    with pytest.raises(ArtifactCorrupted, match=r"data:best: .*/v0.json is not an alias; set it again"):
        store.resolve("data:best")


def test_setting_a_damaged_alias_again_mends_it(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "hello"}, aliases=["best"])
    overwrite(store.path / "artifacts" / "data" / "aliases" / "best" / "v0.json", b"")
    store.set_alias(ref, "best")
    assert store.resolve("data:best") == ref
