"""How much of the files is read when they are published, and by which algorithm: the store's, whatever is there."""

import os
import time
from pathlib import Path

import pytest
from store_publisher import Publisher, objects

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, Producer
from nemo_runspec.artifacts.gc import collect_garbage, find_garbage
from nemo_runspec.artifacts.manifest import Manner
from nemo_runspec.errors import ArtifactError

PRODUCER = Producer(run_id="run-1", stage="train", fingerprint="f0")
SHA256 = b'{"format":1,"hash":"sha256"}'
MIB = 1 << 20
GIB = 1 << 30


def make_checkpoint(directory: Path, *sizes: int) -> Path:
    """Files of nothing but holes, of these sizes in bytes."""
    directory.mkdir(parents=True)
    for number, size in enumerate(sizes):
        with (directory / f"rank_{number}.bin").open("wb") as file:
            file.truncate(size)
    return directory


def refer_to(store: ArtifactStore, path: Path, *, digest: Manner = "auto") -> ArtifactRef:
    return store.publish(
        path, name="model", type="T", metadata={}, producer=PRODUCER, policy="reference", digest=digest
    )


def manners(store: ArtifactStore, ref: ArtifactRef) -> list[str]:
    """How each of the files was digested."""
    return [entry.digest.partition(":")[0] for entry in store.manifest(ref).entries]


def disk_bytes(directory: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in directory.rglob("*"))


@pytest.fixture
def sha256_store(tmp_path: Path) -> ArtifactStore:
    """A store as earlier releases made it."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "format.json").write_bytes(SHA256)
    return ArtifactStore(tmp_path / "store")


def test_a_referenced_checkpoint_of_50_gb_takes_less_than_a_second_and_a_megabyte(
    store: ArtifactStore, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(tmp_path / "iter_0000100", *[5 * 10**9] * 10)
    start = time.monotonic()
    refer_to(store, checkpoint)
    assert time.monotonic() - start < 1
    assert disk_bytes(tmp_path) < 10**6


def test_a_checkpoint_that_was_sampled_is_verified_by_its_samples(store: ArtifactStore, tmp_path: Path) -> None:
    ref = refer_to(store, make_checkpoint(tmp_path / "iter_1", 2 * GIB))
    assert store.verify(ref, "sampled").num_sampled == 1


@pytest.mark.parametrize(
    ("sizes", "digest", "manner"),
    [
        ([MIB], "auto", "blake3"),
        ([MIB], "full", "blake3"),
        ([MIB], "sampled", "sampled-blake3"),
        ([GIB + 1], "auto", "sampled-blake3"),
        ([GIB, 1], "auto", "sampled-blake3"),
    ],
)
def test_all_up_to_a_gib_is_read_and_parts_of_more(
    sizes: list[int], digest: Manner, manner: str, store: ArtifactStore, tmp_path: Path
) -> None:
    ref = refer_to(store, make_checkpoint(tmp_path / "iter_1", *sizes), digest=digest)
    assert set(manners(store, ref)) == {manner}


@pytest.mark.parametrize("digest", ["full", "sampled"])
def test_equal_files_have_an_equal_digest_wherever_they_lie(
    digest: Manner, store: ArtifactStore, tmp_path: Path
) -> None:
    here, there = (make_checkpoint(tmp_path / name, 8 * MIB) for name in ("here", "there"))
    assert refer_to(store, here, digest=digest).digest == refer_to(store, there, digest=digest).digest


@pytest.mark.parametrize("digest", ["full", "sampled"])
def test_a_file_that_was_cut_has_another_digest(digest: Manner, store: ArtifactStore, tmp_path: Path) -> None:
    whole, cut = make_checkpoint(tmp_path / "whole", 8 * MIB), make_checkpoint(tmp_path / "cut", 8 * MIB - 1)
    assert refer_to(store, whole, digest=digest).digest != refer_to(store, cut, digest=digest).digest


def test_a_copy_cannot_be_sampled(store: ArtifactStore, publish: Publisher) -> None:
    with pytest.raises(ArtifactError, match=r"a copy is read in full; give policy='reference' or digest='full'$"):
        store.publish(
            publish.write({"a": "x"}), name="data", type="T", metadata={}, producer=PRODUCER, digest="sampled"
        )
    assert store.names() == []


def test_a_store_with_sha256_goes_on_with_it(sha256_store: ArtifactStore, publish: Publisher) -> None:
    copied, referenced = publish({"a": "x"}), publish({"a": "x"}, policy="reference")
    assert manners(sha256_store, copied) == manners(sha256_store, referenced) == ["sha256"]
    assert copied.digest == referenced.digest
    assert sha256_store.verify(copied).num_full == 1
    assert (Path(sha256_store.location) / "format.json").read_bytes() == SHA256


def test_a_store_with_both_is_whole_and_has_no_garbage(sha256_store: ArtifactStore, publish: Publisher) -> None:
    older = publish({"a": "x"})
    os.replace(publish.write({"new": '{"format":1,"hash":"blake3"}'}) / "new", sha256_store.path / "format.json")
    newer = publish({"a": "x"})
    assert manners(sha256_store, older) + manners(sha256_store, newer) == ["sha256", "blake3"]
    assert find_garbage(sha256_store) == []
    assert [sha256_store.verify(ref).num_full for ref in (older, newer)] == [1, 1]


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_contents_of_either_algorithm_are_collected(algorithm: str, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "format.json").write_text(f'{{"format":1,"hash":"{algorithm}"}}')
    store = ArtifactStore(tmp_path / "store")
    publish = Publisher(store, tmp_path / "sources")
    kept = publish({"a": "kept"})
    publish({"a": "gone"}, name="gone")
    (tmp_path / "store" / "artifacts" / "gone" / "versions" / "v0.json").unlink()
    assert sorted(garbage.kind for garbage in collect_garbage(store, wait_s=0)) == ["manifest", "object"]
    assert [path.parents[2].name for path in objects(store)] == [algorithm]
    store.verify(kept)
