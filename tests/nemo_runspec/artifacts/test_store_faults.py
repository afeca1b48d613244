"""A store that cannot be read or written is told in one line that says where it is and what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest
from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.errors import ArtifactError, StoreError

USE_ANOTHER = "make it a directory you can read and write, or set NEMOTRON_STORE to one"


@pytest.mark.parametrize("below", [".", "store", "deep/store"])
def test_a_file_where_the_store_should_be_is_told(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / below
    with pytest.raises(StoreError, match=f"^artifact store {root}: opening it failed .*; {USE_ANOTHER}$"):
        ArtifactStore(root)


def test_a_directory_where_the_format_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "format.json").mkdir()
    with pytest.raises(StoreError, match=rf"opening it failed \({tmp_path}/format.json\): Is a directory; make"):
        ArtifactStore(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe\x00", b"a\nb", b'{"format": 2, "hash": "sha256"}', b'{"format": 1}'],
    ids=repr,
)
def test_an_unknown_format_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "format.json").write_bytes(content)
    with pytest.raises(StoreError) as caught:
        ArtifactStore(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/format.json: format ")
    assert str(caught.value).endswith(
        " is not supported; allowed: {'format': 1, 'hash': 'blake3'} or {'format': 1, 'hash': 'sha256'}; "
        "use another NEMOTRON_STORE"
    )
    assert "\n" not in str(caught.value)


def test_an_unknown_home_directory_is_told() -> None:
    with pytest.raises(StoreError, match=r"artifact store ~no-such-user/store: .*; set NEMOTRON_STORE to a directory"):
        ArtifactStore("~no-such-user/store")


@pytest.mark.parametrize("part", ["tmp", "objects", "manifests", "artifacts"])
def test_a_file_where_a_part_of_the_store_should_be_is_told(
    part: str, publish: Publisher, store: ArtifactStore
) -> None:
    store.path.mkdir()
    (store.path / part).write_text("")
    with pytest.raises(StoreError, match=f"^artifact store {store.path}: .* failed .*{part}.*; {USE_ANOTHER}$"):
        publish({"a": "x"})


def test_a_place_that_cannot_be_written_is_found_before_the_work(store: ArtifactStore) -> None:
    store.path.mkdir()
    (store.path / "tmp").write_text("")
    with pytest.raises(
        StoreError, match=rf"{store.path}: writing to it failed \({store.path}/tmp\): File exists; make"
    ):
        store.check_writable()


def test_a_file_where_versions_should_be_is_told(store: ArtifactStore) -> None:
    (store.path / "artifacts" / "data").mkdir(parents=True)
    (store.path / "artifacts" / "data" / "versions").write_text("")
    with pytest.raises(StoreError, match=f"artifact store {store.path}: listing versions failed .*; {USE_ANOTHER}"):
        store.resolve("data")


def test_a_store_error_is_both_an_artifact_error_and_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError) as caught:
        ArtifactStore(tmp_path / "file")
    assert isinstance(caught.value, OSError)


def test_a_store_that_cannot_be_written_can_be_read(mount_disk: Callable[[str], Path], tmp_path: Path) -> None:
    root = mount_disk("size=1m") / "store"
    publish = Publisher(ArtifactStore(root), tmp_path / "sources")
    ref = publish({"a": "x"}, aliases=["best"])
    publish.store.materialize(ref)
    mount_disk("remount,ro")
    store = ArtifactStore(root)
    store.verify(store.resolve("data:best"))
    assert (store.materialize(ref) / "a").read_text() == "x"


def test_a_store_that_cannot_be_written_is_told(mount_disk: Callable[[str], Path]) -> None:
    store = ArtifactStore(mount_disk("size=1m") / "store")
    store.check_writable()
    mount_disk("remount,ro")
    with pytest.raises(
        StoreError, match=f"{store.path}: writing to it failed .*: Read-only file system; {USE_ANOTHER}"
    ):
        store.check_writable()


def test_a_place_where_no_store_can_be_created_is_told(mount_disk: Callable[[str], Path]) -> None:
    store = ArtifactStore(mount_disk("size=1m") / "store")
    mount_disk("remount,ro")
    with pytest.raises(StoreError, match=f"{store.path}: writing to it failed: Read-only file system; {USE_ANOTHER}"):
        store.check_writable()


def test_a_file_system_without_hard_links_is_told(publish: Publisher, store: ArtifactStore, small_disk: Path) -> None:
    store.path.mkdir()
    (store.path / "artifacts").symlink_to(small_disk)
    with pytest.raises(StoreError, match=r"this file system makes no hard links .*; set NEMOTRON_STORE to a directory"):
        publish({"a": "x"})
    assert store.names() == []
