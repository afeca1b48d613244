"""Which files can be published, and under what names they are found again."""

import os
from pathlib import Path

import pytest
from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactStore, Producer
from nemo_runspec.artifacts.refs import Policy
from nemo_runspec.errors import ArtifactError

PRODUCER = Producer(run_id="run-1", stage="prepare", fingerprint="f0")


def publish_path(store: ArtifactStore, path: Path, policy: Policy = "copy") -> Path:
    return store.materialize(store.publish(path, name="data", type="T", metadata={}, producer=PRODUCER, policy=policy))


def read_tree(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_text() for path in files}


@pytest.mark.parametrize("policy", ["copy", "reference"])
@pytest.mark.parametrize(
    "files",
    [
        {"a": "x"},
        {"a": "", "b": ""},
        {"iter_1/rank_0/w.bin": "w", "iter_1/meta": "m", "latest": "1"},
        {"a b": "1", "it's": "2", 'say "x"': "3", "two\nlines": "4", "$HOME": "5", "-rf": "6", ".hidden": "7"},
        {"größe/模型": "ü"},
    ],
    ids=["one", "empty", "nested", "nasty", "unicode"],
)
def test_files_are_found_under_their_names(
    files: dict[str, str], policy: Policy, publish: Publisher, store: ArtifactStore
) -> None:
    assert read_tree(store.materialize(publish(files, policy=policy))) == files


def test_a_single_file_is_a_directory_with_that_file(store: ArtifactStore, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    assert read_tree(publish_path(store, path)) == {"tokenizer.json": "{}"}


def test_a_relative_path_can_be_published(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.bin").write_text("w")
    monkeypatch.chdir(tmp_path)
    assert publish_path(store, Path("w.bin"), "reference") == tmp_path


def test_a_link_to_a_file_counts_as_the_file(publish: Publisher, store: ArtifactStore) -> None:
    directory = publish.write({"a": "x"})
    (directory / "link").symlink_to(directory / "a")
    assert read_tree(publish_path(store, directory)) == {"a": "x", "link": "x"}


def test_empty_directories_are_not_kept(publish: Publisher, store: ArtifactStore) -> None:
    directory = publish.write({"a": "x"})
    (directory / "empty").mkdir()
    assert [path.name for path in publish_path(store, directory).iterdir()] == ["a"]


def test_a_copy_stays_when_the_source_goes(publish: Publisher, store: ArtifactStore) -> None:
    directory = publish.write({"a": "x"})
    checkout = publish_path(store, directory)
    (directory / "a").unlink()
    assert read_tree(checkout) == {"a": "x"}


def test_referenced_files_stay_where_they_are(publish: Publisher, store: ArtifactStore) -> None:
    directory = publish.write({"deep/er/a": "x", "z": "y"})
    assert publish_path(store, directory, "reference") == directory


def test_a_path_that_is_not_there_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"cannot publish {tmp_path}/none: no such file or directory; check"):
        publish_path(store, tmp_path / "none")


def test_a_directory_without_files_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "out" / "deep").mkdir(parents=True)
    with pytest.raises(ArtifactError, match=f"cannot publish {tmp_path}/out: the directory has no files; check"):
        publish_path(store, tmp_path / "out")


@pytest.mark.parametrize("policy", ["copy", "reference"])
def test_a_link_to_a_directory_is_refused(policy: Policy, publish: Publisher, store: ArtifactStore) -> None:
    directory = publish.write({"a": "x"})
    (directory / "link").symlink_to(directory.parent)
    with pytest.raises(ArtifactError, match=f"cannot publish {directory}/link: a link to a directory; put the files"):
        publish_path(store, directory, policy)


def test_a_broken_link_is_refused(publish: Publisher, store: ArtifactStore) -> None:
    directory = publish.write({"a": "x"})
    (directory / "link").symlink_to("nowhere")
    with pytest.raises(ArtifactError, match=f"cannot publish {directory}/link: No such file or directory; remove it"):
        publish_path(store, directory)


@pytest.mark.timeout(10)
def test_a_pipe_is_refused(publish: Publisher, store: ArtifactStore) -> None:
    directory = publish.write({"a": "x"})
    os.mkfifo(directory / "pipe")
    with pytest.raises(ArtifactError, match=f"cannot publish {directory}/pipe: not a readable regular file; remove it"):
        publish_path(store, directory)


@pytest.mark.parametrize("policy", ["copy", "reference"])
def test_a_name_that_is_not_utf_8_is_refused(policy: Policy, publish: Publisher, store: ArtifactStore) -> None:
    directory = publish.write({"a": "x"})
    (directory / os.fsdecode(b"caf\xe9")).write_text("x")
    with pytest.raises(ArtifactError, match=r"cannot publish '.*/caf\\udce9': its name is not UTF-8; rename it"):
        publish_path(store, directory, policy)


def test_a_refused_path_leaves_no_version(publish: Publisher, store: ArtifactStore) -> None:
    directory = publish.write({"a": "x"})
    (directory / "z").symlink_to("nowhere")
    with pytest.raises(ArtifactError):
        publish_path(store, directory)
    assert (store.names(), list((store.path / "tmp").iterdir())) == ([], [])
