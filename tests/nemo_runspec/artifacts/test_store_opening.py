"""Opening and reading a store changes nothing on disk; the first to write creates it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.errors import ArtifactNotFound, StoreError

FORMAT = b'{"format":1,"hash":"blake3"}'


def test_opening_and_reading_creates_nothing(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    assert (store.names(), store.versions("data"), store.aliases("data"), store.find("data", "f0")) == (
        [],
        [],
        {},
        None,
    )
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_not_there_has_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFound, match=r"have: none"):
        ArtifactStore(tmp_path / "store").resolve("data")


@pytest.mark.parametrize("create", [lambda store, _: store.check_writable(), lambda _, publish: publish({"a": "x"})])
def test_the_first_to_write_creates_the_store(
    create: Callable[[ArtifactStore, Publisher], None], store: ArtifactStore, publish: Publisher
) -> None:
    create(store, publish)
    assert (store.path / "format.json").read_bytes() == FORMAT


def test_a_store_of_another_format_made_since_it_was_opened_is_refused(
    store: ArtifactStore, publish: Publisher
) -> None:
    store.path.mkdir()
    (store.path / "format.json").write_text('{"format": 2}')
    with pytest.raises(StoreError, match=r"format.json: format \{'format': 2\} is not supported"):
        publish({"a": "x"})
    assert (store.path / "format.json").read_text() == '{"format": 2}'


def test_aliases_are_told_with_what_they_mean_now(store: ArtifactStore, publish: Publisher) -> None:
    first, second = publish({"a": "x"}, aliases=["best", "old"]), publish({"a": "y"})
    store.set_alias(second, "best")
    assert store.aliases("data") == {"best": second.version, "old": first.version}
