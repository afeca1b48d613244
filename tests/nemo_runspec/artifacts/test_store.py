import json
from pathlib import Path

import pytest
from blake3 import blake3
from store_publisher import Publisher, objects

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.artifacts.hashing import canonical_json, digest_bytes


def test_the_first_version_is_v0(publish: Publisher) -> None:
    assert str(publish({"a": "x"}, name="corpus")) == "corpus:v0"


def test_each_publication_is_a_new_version(publish: Publisher, store: ArtifactStore) -> None:
    refs = [publish({"a": "x"}), publish({"a": "x"}), publish({"a": "y"})]
    assert [ref.version for ref in refs] == ["v0", "v1", "v2"]
    assert store.versions("data") == refs


def test_what_publish_returns_is_what_resolve_finds(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "x"}, metadata={"tokens": 10**12, "loss": 0.1, "splits": ("a", "b"), "é": None})
    assert store.resolve("data:v0") == ref
    assert ref.metadata == {"tokens": 10**12, "loss": 0.1, "splits": ["a", "b"], "é": None}


@pytest.mark.parametrize("reference", ["data", "data:latest", "art://data", "art://data:latest", "data:v10", "data:10"])
def test_latest_is_the_highest_number(reference: str, publish: Publisher, store: ArtifactStore) -> None:
    refs = [publish({"a": "x"}) for _ in range(11)]
    assert store.resolve(reference) == refs[10]


@pytest.mark.parametrize("reference", ["data:v0", "data:0", "art://data:v0"])
def test_an_older_version_stays(reference: str, publish: Publisher, store: ArtifactStore) -> None:
    older, _ = publish({"a": "x"}), publish({"a": "y"})
    assert store.resolve(reference) == older


def test_the_right_type_is_given_out(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "x"}, type="SFTDataArtifact")
    assert store.resolve("data", "SFTDataArtifact") == ref


def test_an_alias_given_at_publication_means_that_version(publish: Publisher, store: ArtifactStore) -> None:
    best, _ = publish({"a": "x"}, aliases=["best", "smoke.1"]), publish({"a": "y"})
    assert store.resolve("data:best") == store.resolve("data:smoke.1") == best


def test_an_alias_can_be_moved_and_moved_back(publish: Publisher, store: ArtifactStore) -> None:
    first, second = publish({"a": "x"}, aliases=["best"]), publish({"a": "y"})
    store.set_alias(second, "best")
    assert store.resolve("data:best") == second
    store.set_alias(first, "best")
    assert store.resolve("data:best") == first


def test_an_alias_belongs_to_one_name(publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "x"}, name="one", aliases=["best"])
    two = publish({"a": "x"}, name="two", aliases=["best"])
    assert store.resolve("two:best") == two


def test_names_are_sorted(publish: Publisher, store: ArtifactStore) -> None:
    refs = [publish({"a": "x"}, name=name) for name in ("b", "A.1", "a-2")]
    assert store.names() == sorted(ref.name for ref in refs)


def test_an_empty_store_has_no_names(store: ArtifactStore) -> None:
    assert store.names() == []


def test_an_unknown_name_has_no_versions(store: ArtifactStore) -> None:
    assert store.versions("data") == []


@pytest.mark.parametrize("stray", [".DS_Store", "README", "not a name"])
def test_a_stray_file_is_no_name(stray: str, publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "x"})
    (store.path / "artifacts" / stray).write_text("")
    assert store.names() == ["data"]


def test_a_stray_file_is_no_version(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "x"})
    (store.path / "artifacts" / "data" / "versions" / "v01.json").write_text("")
    (store.path / "artifacts" / "data" / "versions" / "v7.json~").write_text("")
    assert store.versions("data") == [ref]


def test_equal_files_have_an_equal_digest_whatever_else_differs(publish: Publisher) -> None:
    one = publish({"a": "x", "b/c": "y"})
    two = publish({"b/c": "y", "a": "x"}, name="other", type="U", metadata={"k": 1}, policy="reference")
    assert one.digest == two.digest


@pytest.mark.parametrize(
    "files", [{"a": "y"}, {"b": "x"}, {"a": "x", "b": ""}, {"b/a": "x"}], ids=["content", "name", "more", "place"]
)
def test_different_files_have_a_different_digest(files: dict[str, str], publish: Publisher) -> None:
    assert publish(files).digest != publish({"a": "x"}).digest


def test_the_digest_is_over_names_sizes_and_digests_in_order_of_the_names(publish: Publisher) -> None:
    entries = [["b/c", 2, "blake3:" + blake3(b"yy").hexdigest()], ["z", 1, "blake3:" + blake3(b"x").hexdigest()]]
    assert publish({"z": "x", "b/c": "yy"}).digest == digest_bytes(canonical_json(entries))


def test_equal_contents_are_kept_once(publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "x", "b": "x"})
    publish({"c": "x"}, name="other")
    assert len(objects(store)) == 1


def test_referenced_contents_are_not_kept(publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "x"}, policy="reference")
    assert objects(store) == []


def test_the_record_says_who_made_it_and_from_what(publish: Publisher, store: ArtifactStore) -> None:
    needed = publish({"a": "x"}, name="corpus")
    record = store.record(publish({"a": "y"}, stage="train", inputs=[needed], policy="reference"))
    assert (record.producer.run_id, record.producer.stage, record.policy) == ("run-1", "train", "reference")
    assert record.inputs == [needed]


def test_a_record_says_nothing_of_a_mirror_that_there_is_none_of(publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "x"}, metadata={"none": None})
    kept = json.loads((store.path / "artifacts" / "data" / "versions" / "v0.json").read_text())
    assert "wandb" not in kept  # which older releases do not know
    assert kept["ref"]["metadata"] == {"none": None}


def test_a_fingerprint_finds_the_newest_version_it_made(publish: Publisher, store: ArtifactStore) -> None:
    refs = [publish({"a": "x"}, fingerprint=fingerprint) for fingerprint in ("f1", "f1", "f2")]
    assert store.find("data", "f1") == refs[1]


@pytest.mark.parametrize(("name", "fingerprint"), [("data", "f3"), ("other", "f1"), ("data", "")])
def test_a_fingerprint_that_made_nothing_finds_nothing(
    name: str, fingerprint: str, publish: Publisher, store: ArtifactStore
) -> None:
    publish({"a": "x"}, fingerprint="f1")
    publish({"a": "x"}, fingerprint="")
    assert store.find(name, fingerprint) is None


def test_a_store_opened_again_has_the_same_versions(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "x"})
    assert ArtifactStore(store.path).resolve("data") == ref


def test_a_store_can_be_moved(publish: Publisher, store: ArtifactStore, tmp_path: Path) -> None:
    ref = publish({"a": "x"})
    moved = ArtifactStore(store.path.rename(tmp_path / "moved"))
    assert (moved.materialize(ref) / "a").read_text() == "x"


def test_the_home_directory_can_be_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ArtifactStore("~/store").path == tmp_path / "store"


def test_nothing_unfinished_is_left_behind(publish: Publisher, store: ArtifactStore) -> None:
    store.materialize(publish({"a": "x"}, aliases=["best"]))
    store.check_writable()
    assert list((store.path / "tmp").iterdir()) == []
