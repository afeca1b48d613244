"""A full disk, on a small file system of its own: told in one line, and nothing half-written."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactStore, setup_artifact_tracking
from nemo_runspec.errors import StoreError

TOO_BIG = "x" * (2 << 20)


@pytest.fixture
def publish_small(small_disk: Path, tmp_path: Path) -> Publisher:
    """Publishes to a store on the small disk from files on the large one."""
    return Publisher(ArtifactStore(small_disk / "store"), tmp_path / "sources")


def fill(disk: Path) -> Path:
    """Use up the disk; the file to remove to free it."""
    filler = disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free))
    return filler


def left_in_tmp(store: ArtifactStore) -> list[Path]:
    return list((store.path / "tmp").iterdir())


def test_an_artifact_that_does_not_fit_is_refused(publish_small: Publisher) -> None:
    with pytest.raises(
        StoreError,
        match=rf"^artifact store {publish_small.store.path}: disk full while publishing data: \d+ bytes free; nothing "
        "was published; free some space or set NEMOTRON_STORE to a directory on another disk$",
    ):
        publish_small({"a": TOO_BIG})


@pytest.mark.parametrize("files", [{"a": TOO_BIG}, {"a": "fits", "b/c": TOO_BIG}], ids=["first", "second"])
def test_an_artifact_that_does_not_fit_leaves_nothing_half_written(
    files: dict[str, str], publish_small: Publisher
) -> None:
    with pytest.raises(StoreError):
        publish_small(files)
    assert publish_small.store.names() == []
    assert left_in_tmp(publish_small.store) == []


def test_a_full_disk_gets_no_new_version(publish_small: Publisher, small_disk: Path) -> None:
    ref = publish_small({"a": "x"})
    fill(small_disk)
    with pytest.raises(StoreError, match="disk full while publishing data: 0 bytes free"):
        publish_small({"a": "y"})
    assert publish_small.store.versions("data") == [ref]
    assert left_in_tmp(publish_small.store) == []


def test_what_was_published_stays_whole(publish_small: Publisher) -> None:
    ref = publish_small({"a": "x"})
    with pytest.raises(StoreError):
        publish_small({"a": TOO_BIG})
    publish_small.store.verify(ref)


def test_publishing_works_again_after_space_is_freed(publish_small: Publisher, small_disk: Path) -> None:
    filler = fill(small_disk)
    with pytest.raises(StoreError):
        publish_small({"a": "x"})
    filler.unlink()
    ref = publish_small({"a": "x"})
    assert ref.version == "v0"
    publish_small.store.verify(ref)


def test_an_alias_stays_what_it_was(publish_small: Publisher, small_disk: Path) -> None:
    first, second = publish_small({"a": "x"}, aliases=["best"]), publish_small({"a": "y"})
    fill(small_disk)
    with pytest.raises(StoreError, match="disk full while setting alias data:best"):
        publish_small.store.set_alias(second, "best")
    assert publish_small.store.resolve("data:best") == first


def test_a_full_disk_is_found_before_the_work(
    publish_small: Publisher, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEMOTRON_STORE", str(publish_small.store.path))
    fill(small_disk)
    with pytest.raises(StoreError, match="disk full while writing to it: 0 bytes free"):
        setup_artifact_tracking({})


def test_a_full_disk_is_told_when_there_is_no_store_yet(mount_disk: Callable[[str], Path]) -> None:
    root = mount_disk("size=1m,nr_inodes=1") / "deep" / "store"
    with pytest.raises(StoreError, match=f"^artifact store {root}: disk full while writing to it .*; free some"):
        ArtifactStore(root).check_writable()
