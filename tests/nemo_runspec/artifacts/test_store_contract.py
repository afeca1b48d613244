"""What holds for a store wherever it is: in a directory, in memory, and on S3 over HTTP."""

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from store_places import NUM_AT_ONCE, NUM_EACH, in_threads, publish_some, put_file, remove_file
from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.artifacts.backend import object_key
from nemo_runspec.artifacts.gc import collect_garbage, find_garbage
from nemo_runspec.errors import ArtifactCorrupted, ArtifactNotFound

PLACES = ["path", "file", "memory", "s3"]


@pytest.fixture(params=PLACES)
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NEMOTRON_CACHE", str(tmp_path / "cache"))
    directory = tmp_path / "store"
    if request.param == "s3":
        return f"{request.getfixturevalue('s3_bucket')}/team/store"
    return {"path": str(directory), "file": directory.as_uri(), "memory": f"memory://{uuid.uuid4()}"}[request.param]


@pytest.fixture
def store(root: str) -> ArtifactStore:
    return ArtifactStore(root)


def object_of(store: ArtifactStore, ref: ArtifactRef) -> str:
    return object_key(store.manifest(ref).entries[0].digest)


def publish_at_once(root: str, folder: Path) -> dict[str, str]:
    """Version → text, as the publishers were told: threads where only they share the store, else processes."""
    folder.mkdir()
    if root.startswith("memory://"):
        in_threads(lambda number: publish_some(root, folder, number))
    else:
        script = Path(__file__).with_name("store_places.py")
        subprocess.run([sys.executable, script, root, folder], check=True, timeout=120)
    told = [json.loads(path.read_text()) for path in sorted(folder.glob("told-*"))]
    return {version: text for each in told for version, text in each.items()}


class TestEveryStore:
    def test_opening_and_reading_create_nothing(self, store: ArtifactStore) -> None:
        assert (store.exists(), store.names(), store.aliases("data")) == (False, [], {})
        assert store.backend.list_names("") == []

    def test_the_location_opens_it_elsewhere(self, publish: Publisher, store: ArtifactStore) -> None:
        ref = publish({"a": "x"})
        assert ArtifactStore(store.location).resolve("data") == ref

    def test_each_publication_is_the_next_version(self, publish: Publisher, store: ArtifactStore) -> None:
        refs = [publish({"a": text}) for text in "xxy"]
        assert [ref.version for ref in refs] == ["v0", "v1", "v2"]
        assert store.versions("data") == refs
        assert store.resolve("data:latest") == refs[2]

    def test_what_publish_returns_is_what_is_found(self, publish: Publisher, store: ArtifactStore) -> None:
        ref = publish({"a": "x"}, metadata={"é": [1, None]}, fingerprint="f7")
        assert store.resolve("data:v0") == store.find("data", "f7") == ref

    def test_what_was_made_is_found_without_the_index_too(self, publish: Publisher, store: ArtifactStore) -> None:
        ref = publish({"a": "x"}, fingerprint="f1")
        remove_file(store, "made/data.json")
        assert store.find("data", "f1") == ref

    @pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"v0": 1}', b"\xff"])
    def test_what_was_made_is_found_whatever_became_of_the_index(
        self, content: bytes, publish: Publisher, store: ArtifactStore
    ) -> None:
        ref = publish({"a": "x"}, fingerprint="f1")
        put_file(store, "made/data.json", content)
        assert store.find("data", "f1") == ref

    def test_the_next_publication_completes_the_index(self, publish: Publisher, store: ArtifactStore) -> None:
        publish({"a": "x"}, fingerprint="f1")
        remove_file(store, "made/data.json")
        publish({"a": "x"}, fingerprint="f2")
        assert json.loads(store.backend.read("made/data.json")) == {"v0": "f1", "v1": "f2"}

    def test_a_version_under_the_number_of_one_that_was_given_up_is_found(
        self, publish: Publisher, store: ArtifactStore
    ) -> None:
        publish({"a": "x"}, fingerprint="f1")
        remove_file(store, "artifacts/data/versions/v0.json")
        ref = publish({"a": "x"}, fingerprint="f2")
        assert (store.find("data", "f1"), store.find("data", "f2")) == (None, ref)

    def test_another_process_sees_what_was_published_since(self, publish: Publisher, root: str) -> None:
        publish({"a": "x"})
        reader = ArtifactStore(root)
        assert [ref.version for ref in reader.versions("data")] == ["v0"]
        publish({"a": "x"})
        assert [ref.version for ref in reader.versions("data")] == ["v0", "v1"]

    def test_a_name_that_is_not_there_is_told_with_those_that_are(
        self, publish: Publisher, store: ArtifactStore
    ) -> None:
        publish({"a": "x"}, name="corpus")
        with pytest.raises(ArtifactNotFound, match=r"no artifact 'corpse' in .*; have: corpus\. Did you mean 'corpus'"):
            store.resolve("corpse")

    def test_an_alias_can_be_moved(self, publish: Publisher, store: ArtifactStore) -> None:
        first, second = publish({"a": "x"}, aliases=["best"]), publish({"a": "y"})
        assert store.resolve("data:best") == first
        store.set_alias(second, "best")
        assert store.resolve("data:best") == second
        assert store.aliases("data") == {"best": "v1"}

    def test_inputs_are_the_lineage(self, publish: Publisher, store: ArtifactStore) -> None:
        data = publish({"a": "x"})
        model = publish({"m": "y"}, name="model", inputs=[data])
        assert [(edge.output, edge.input) for edge in store.lineage(model)] == [(model, data)]

    def test_files_are_set_out_under_their_names(self, publish: Publisher, store: ArtifactStore) -> None:
        path = store.materialize(publish({"a": "x", "deep/b": "", "deep/ü c": "z"}))
        found = {it.relative_to(path).as_posix(): it.read_text() for it in path.rglob("*") if it.is_file()}
        assert found == {"a": "x", "deep/b": "", "deep/ü c": "z"}

    def test_they_are_set_out_once(self, publish: Publisher, store: ArtifactStore) -> None:
        ref = publish({"a": "x"})
        first = (store.materialize(ref) / "a").stat()
        again = (store.materialize(ref) / "a").stat()
        assert (first.st_ino, first.st_mtime_ns) == (again.st_ino, again.st_mtime_ns)

    def test_a_file_set_out_that_was_changed_is_replaced(self, publish: Publisher, store: ArtifactStore) -> None:
        ref = publish({"a": "x"})
        path = store.materialize(ref) / "a"
        path.unlink()
        path.write_text("y")
        assert (store.materialize(ref) / "a").read_text() == "x"

    def test_referenced_files_stay_where_they_are(self, publish: Publisher, store: ArtifactStore) -> None:
        ref = publish({"a": "x"}, policy="reference")
        entry = store.manifest(ref).entries[0]
        assert entry.ref == str(store.materialize(ref) / "a")
        assert store.backend.status(object_key(entry.digest)) is None

    def test_a_referenced_file_that_changed_is_found(self, publish: Publisher, store: ArtifactStore) -> None:
        ref = publish({"a": "x"}, policy="reference")
        (store.materialize(ref) / "a").write_text("y")
        with pytest.raises(ArtifactCorrupted, match="data:v0: a: expected"):
            store.verify(ref)

    @pytest.mark.parametrize("content", [b"hellO", b"hell", b""], ids=["flipped", "truncated", "emptied"])
    def test_a_damaged_content_is_found(self, content: bytes, publish: Publisher, store: ArtifactStore) -> None:
        ref = publish({"a": "hello"})
        store.verify(ref)
        put_file(store, object_of(store, ref), content)
        with pytest.raises(ArtifactCorrupted, match=r"data:v0: a: expected .*, got "):
            store.verify(ref)

    def test_a_missing_content_is_found(self, publish: Publisher, store: ArtifactStore) -> None:
        ref = publish({"a": "hello"})
        remove_file(store, object_of(store, ref))
        with pytest.raises(ArtifactCorrupted, match="data:v0: a: expected 5 bytes, got no such file"):
            store.verify(ref, "stat")

    def test_a_damaged_content_heals_when_it_is_published_again(self, publish: Publisher, store: ArtifactStore) -> None:
        ref = publish({"a": "hello"})
        put_file(store, object_of(store, ref), b"hellO")
        publish({"a": "hello"})
        store.verify(ref)

    def test_a_damaged_record_is_told(self, publish: Publisher, store: ArtifactStore) -> None:
        publish({"a": "x"})
        put_file(store, "artifacts/data/versions/v0.json", b"{")
        with pytest.raises(ArtifactCorrupted, match=r"data:v0: .*/v0\.json is not a version record"):
            store.resolve("data")

    def test_the_newest_note_counts(self, publish: Publisher, store: ArtifactStore) -> None:
        publish({"a": "x"})
        assert store.newest_note("mirrors/wandb/data/v0") is None
        store.add_note("mirrors/wandb/data/v0", {"state": "sent"})
        store.add_note("mirrors/wandb/data/v0", {"state": "whole"})
        assert store.newest_note("mirrors/wandb/data/v0") == {"state": "whole"}

    def test_publishers_at_once_each_get_a_version_of_their_own(self, root: str, tmp_path: Path) -> None:
        told = publish_at_once(root, tmp_path / "at-once")
        assert sorted(told, key=lambda version: int(version[1:])) == [f"v{n}" for n in range(NUM_AT_ONCE * NUM_EACH)]
        assert {ref.version: ref.metadata["text"] for ref in ArtifactStore(root).versions("data")} == told

    def test_what_only_a_removed_version_had_is_garbage(self, publish: Publisher, store: ArtifactStore) -> None:
        gone, kept = publish({"a": "shared", "b": "own"}, name="gone"), publish({"a": "shared"})
        remove_file(store, "artifacts/gone/versions/v0.json")
        own = [object_key(it.digest) for it in store.manifest(kept).entries]
        found = {item.key for item in collect_garbage(store, wait_s=0)}
        assert len([key for key in found if key.startswith("objects/")]) == 1
        assert not found & set(own)
        store.verify(kept)
        assert find_garbage(store) == []
        assert gone.name not in store.names()

    def test_a_store_in_use_has_no_garbage(self, publish: Publisher, store: ArtifactStore) -> None:
        store.materialize(publish({"a": "x"}, aliases=["best"]))
        store.add_note("mirrors/wandb/data/v0", {})
        assert find_garbage(store) == collect_garbage(store, wait_s=0) == []

    def test_nothing_unfinished_is_left(self, publish: Publisher, store: ArtifactStore) -> None:
        publish({"a": "x"})
        store.check_writable()
        assert store.backend.list_names("tmp") == store.backend.writers() == []

    def test_stores_side_by_side_know_nothing_of_each_other(
        self, publish: Publisher, store: ArtifactStore, root: str, tmp_path: Path
    ) -> None:
        publish({"a": "x"})
        beside = ArtifactStore(f"{root}-2")
        assert not beside.exists()
        Publisher(beside, tmp_path / "sources")({"b": "y"}, name="other")
        assert (store.names(), beside.names()) == (["data"], ["other"])
        assert find_garbage(store) == find_garbage(beside) == []
