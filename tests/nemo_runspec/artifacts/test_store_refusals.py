import re
from pathlib import Path
from typing import Any

import pytest
from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.errors import ArtifactCorrupted, ArtifactError, ArtifactNotFound, RunspecError

BAD_NAMES = ["", " ", "a b", "../x", ".hidden", "-x", "é", "a\n", "$(x)", "x" * 129]


def assert_nothing_published(store: ArtifactStore) -> None:
    assert store.names() == []
    assert not (store.path / "tmp").exists() or list((store.path / "tmp").iterdir()) == []


def test_an_unknown_name_is_told_with_the_closest(publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "x"}, name="nano3-sft")
    publish({"a": "x"}, name="corpus")
    with pytest.raises(ArtifactNotFound) as caught:
        store.resolve("nano3-stf")
    assert str(caught.value) == (
        f"no artifact 'nano3-stf' in {store.path}; have: corpus, nano3-sft. Did you mean 'nano3-sft'?"
    )


def test_an_unknown_name_in_an_empty_store_says_what_to_do(store: ArtifactStore) -> None:
    with pytest.raises(ArtifactNotFound, match=r"have: none\. Run the stage that makes it, or set NEMOTRON_STORE"):
        store.resolve("corpus:v1")


def test_an_unknown_alias_is_told_with_the_closest(publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "x"}, aliases=["best"])
    publish({"a": "x"})
    with pytest.raises(ArtifactNotFound) as caught:
        store.resolve("data:bset")
    assert str(caught.value) == (
        f"artifact 'data' has no version or alias 'bset' in {store.path}; have: v0 to v1, latest, best. "
        "Did you mean 'best'?"
    )


def test_an_unknown_version_is_told_with_those_there_are(publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "x"})
    with pytest.raises(ArtifactNotFound, match=r"no version or alias 'v9' in .*; have: v0, latest\. Did you mean 'v0'"):
        store.resolve("data:9")


def test_a_wrong_type_is_told_with_those_of_the_right_one(publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "x"}, type="ModelArtifact")
    publish({"a": "x"}, name="chat", type="SFTDataArtifact")
    message = "data: data:v0 is a ModelArtifact, expected SFTDataArtifact; of that type: chat"
    with pytest.raises(ArtifactError, match=f"^{re.escape(message)}$"):
        store.resolve("data", "SFTDataArtifact")


@pytest.mark.parametrize("reference", [*BAD_NAMES, "a:", ":v0", "a:b:c", "art://", "http://a", "a:v 1", "a/b/c/d"])
def test_a_malformed_reference_is_refused(reference: str, store: ArtifactStore) -> None:
    with pytest.raises(ArtifactError, match=r"is malformed; give NAME, NAME:vN, NAME:ALIAS or NAME:latest"):
        store.resolve(reference)


@pytest.mark.parametrize("name", [*BAD_NAMES, "a/b"])
def test_a_malformed_name_is_refused(name: str, publish: Publisher, store: ArtifactStore) -> None:
    with pytest.raises(ArtifactError, match=r"artifact name .* is malformed; use up to 128 letters"):
        publish({"a": "x"}, name=name)
    assert_nothing_published(store)


@pytest.mark.parametrize("alias", ["latest", "v3", "3", "0", "a/b", "", "a:b", ".."])
def test_a_word_that_cannot_be_an_alias_is_refused(alias: str, publish: Publisher, store: ArtifactStore) -> None:
    with pytest.raises(ArtifactError, match=re.escape(f"alias {alias!r} cannot be used; choose a word")):
        publish({"a": "x"}, aliases=["good", alias])
    assert_nothing_published(store)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), object(), {1, 2}, b"x", Path("x"), "\udcff", {"\udcff": 1}],
    ids=["nan", "inf", "object", "set", "bytes", "path", "surrogate", "surrogate key"],
)
def test_metadata_that_cannot_be_kept_is_refused(value: Any, publish: Publisher, store: ArtifactStore) -> None:
    with pytest.raises(ArtifactError, match=r"data: metadata is not finite JSON of valid text: .*; give str, int"):
        publish({"a": "x"}, metadata={"key": value})
    assert_nothing_published(store)


def test_an_input_that_the_store_lacks_is_refused(publish: Publisher, store: ArtifactStore, tmp_path: Path) -> None:
    foreign = Publisher(ArtifactStore(tmp_path / "other"), tmp_path / "sources")({"a": "x"}, name="corpus")
    with pytest.raises(ArtifactNotFound, match=f"corpus:v0 is not in {store.path}; have: none; rerun the stage"):
        publish({"a": "y"}, inputs=[foreign])
    assert_nothing_published(store)


def test_a_reference_with_another_digest_is_refused(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "x"})
    other = ref.model_copy(update={"digest": "sha256:" + "0" * 64})
    with pytest.raises(ArtifactCorrupted, match=f"data:v0: expected {other.digest}, got {ref.digest} in {store.path}"):
        store.record(other)


@pytest.mark.parametrize("method", ["materialize", "verify", "record", "lineage"])
def test_a_version_that_is_not_there_is_refused(method: str, publish: Publisher, store: ArtifactStore) -> None:
    absent = publish({"a": "x"}).model_copy(update={"version": "v5"})
    with pytest.raises(ArtifactNotFound, match=f"data:v5 is not in {store.path}; have: data; rerun the stage"):
        getattr(store, method)(absent)


def test_an_alias_for_a_version_that_is_not_there_is_refused(publish: Publisher, store: ArtifactStore) -> None:
    absent = publish({"a": "x"}).model_copy(update={"version": "v5"})
    with pytest.raises(ArtifactNotFound, match="data:v5 is not in"):
        store.set_alias(absent, "best")


@pytest.mark.parametrize("reference", ["data:v5", "dota", "da ta", "data:best"])
def test_a_refusal_is_one_line(reference: str, publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "x"})
    with pytest.raises(RunspecError) as caught:
        store.resolve(reference)
    assert len(str(caught.value).splitlines()) == 1
