"""What each level of checking finds, what it cannot find, and that it says which of the two it did."""

import itertools
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest
from store_publisher import Publisher, objects, overwrite

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, Producer
from nemo_runspec.artifacts.digests import digest_file
from nemo_runspec.artifacts.verification import Level, Verification
from nemo_runspec.errors import ArtifactCorrupted, ArtifactError

MIB = 1 << 20
NUM_BYTES = 8 * MIB
Damage = Callable[[Path], None]


def flip(path: Path, offset: int) -> None:
    """Change a byte behind the back of the file's times, as a bad disk would."""
    before = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip_first(path: Path) -> None:
    flip(path, 0)


def flip_last(path: Path) -> None:
    flip(path, NUM_BYTES - 1)


def flip_between(path: Path) -> None:
    """Change what is not sampled: the MiB at the start is, and the first block after it begins later."""
    flip(path, MIB)


def cut(path: Path) -> None:
    os.truncate(path, NUM_BYTES - 1)


def replace(path: Path) -> None:
    """Put another file of the same size and time there."""
    before = path.stat()
    path.unlink()
    path.write_bytes(b"x" * NUM_BYTES)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "iter_10" / "weights"
    path.parent.mkdir()
    path.write_bytes(b"w" * NUM_BYTES)
    return path


def publish_sampled(store: ArtifactStore, checkpoint: Path) -> ArtifactRef:
    return store.publish(
        checkpoint.parent,
        name="model",
        type="ModelArtifact",
        metadata={},
        producer=Producer(run_id="run-1", stage="train", fingerprint="f0"),
        policy="reference",
        digest="sampled",
    )


@pytest.fixture
def sampled(store: ArtifactStore, checkpoint: Path) -> ArtifactRef:
    """A referenced checkpoint of 8 MiB with a sampled digest."""
    return publish_sampled(store, checkpoint)


@contextmanager
def touched_all_the_time(path: Path) -> Iterator[None]:
    done = threading.Event()

    def touch() -> None:
        for mtime_ns in itertools.count(1):
            os.utime(path, ns=(mtime_ns, mtime_ns))
            if done.wait(0.0005):
                return

    writer = threading.Thread(target=touch)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()


def attestations(store: ArtifactStore, ref: ArtifactRef) -> str:
    """The notes with the version's full digests."""
    return f"attest/{store.record(ref).manifest}"


FOUND_BY_SIZE = [cut, Path.unlink]
FOUND_BY_SAMPLE = [*FOUND_BY_SIZE, flip_first, flip_last, replace]


@pytest.mark.parametrize(
    ("level", "damage"),
    [
        *[("stat", damage) for damage in FOUND_BY_SIZE],
        *[("sampled", damage) for damage in FOUND_BY_SAMPLE],
        *[("full", damage) for damage in FOUND_BY_SAMPLE],
    ],
)
def test_a_level_finds_in_a_sampled_file(
    level: Level, damage: Damage, sampled: ArtifactRef, store: ArtifactStore, checkpoint: Path
) -> None:
    damage(checkpoint)
    with pytest.raises(ArtifactCorrupted, match=r"^model:v0: weights: expected .*, got .*/weights\); rerun the stage"):
        store.verify(sampled, level)


@pytest.mark.parametrize(
    ("level", "damage"),
    [("stat", flip_first), ("stat", flip_between), ("stat", replace), ("sampled", flip_between)],
)
def test_a_level_does_not_find_in_a_sampled_file(
    level: Level, damage: Damage, sampled: ArtifactRef, store: ArtifactStore, checkpoint: Path
) -> None:
    damage(checkpoint)
    assert store.verify(sampled, level).num_full == 0


@pytest.mark.parametrize("damage", [*FOUND_BY_SAMPLE, flip_between])
def test_a_full_check_finds_all_once_the_full_digest_is_recorded(
    damage: Damage, sampled: ArtifactRef, store: ArtifactStore, checkpoint: Path
) -> None:
    store.verify(sampled, "full")
    damage(checkpoint)
    with pytest.raises(ArtifactCorrupted, match="model:v0: weights: expected"):
        store.verify(sampled, "full")


def test_damage_between_the_parts_before_the_first_full_check_is_recorded_as_the_content(
    sampled: ArtifactRef, store: ArtifactStore, checkpoint: Path
) -> None:
    flip_between(checkpoint)
    assert store.verify(sampled, "full").num_attested == 1
    assert store.verify(sampled, "full").num_full == 1


@pytest.mark.parametrize(
    ("level", "num_sampled", "num_by_size", "num_attested"),
    [("full", 1, 0, 1), ("sampled", 1, 0, 0), ("stat", 0, 1, 0)],
)
def test_the_first_check_of_a_sampled_file_does_not_claim_to_be_full(
    level: Level, num_sampled: int, num_by_size: int, num_attested: int, sampled: ArtifactRef, store: ArtifactStore
) -> None:
    assert store.verify(sampled, level) == Verification(
        level=level,
        num_files=1,
        num_bytes=NUM_BYTES,
        num_full=0,
        num_sampled=num_sampled,
        num_by_size=num_by_size,
        num_attested=num_attested,
        num_unattested=1 - num_attested,
    )


def test_the_second_full_check_of_a_sampled_file_is_full(sampled: ArtifactRef, store: ArtifactStore) -> None:
    store.verify(sampled, "full")
    assert store.verify(sampled, "full") == Verification(
        level="full", num_files=1, num_bytes=NUM_BYTES, num_full=1, num_sampled=0, num_by_size=0
    )


def test_a_full_digest_is_recorded_once(sampled: ArtifactRef, store: ArtifactStore, checkpoint: Path) -> None:
    store.verify(sampled, "full")
    store.verify(sampled, "full")
    assert store.newest_note(attestations(store, sampled)) == {"weights": digest_file(checkpoint)}
    assert store.backend.list_names(attestations(store, sampled)) == ["v0.json"]


def test_a_full_digest_recorded_in_another_algorithm_is_compared(
    sampled: ArtifactRef, store: ArtifactStore, checkpoint: Path
) -> None:
    store.add_note(attestations(store, sampled), {"weights": digest_file(checkpoint, "sha256")})
    flip_between(checkpoint)
    with pytest.raises(ArtifactCorrupted, match=r"weights: expected sha256:.*, got sha256:"):
        store.verify(sampled, "full")


def test_full_digests_recorded_before_are_kept(store: ArtifactStore, checkpoint: Path) -> None:
    (checkpoint.parent / "bias").write_bytes(b"b")
    ref = publish_sampled(store, checkpoint)
    known = digest_file(checkpoint, "sha256")
    store.add_note(attestations(store, ref), {"weights": known})
    found = store.verify(ref, "full")
    assert (found.num_full, found.num_sampled, found.num_attested) == (1, 1, 1)
    assert store.newest_note(attestations(store, ref)) == {
        "weights": known,
        "bias": digest_file(checkpoint.parent / "bias"),
    }


def test_a_damaged_record_of_full_digests_is_told(sampled: ArtifactRef, store: ArtifactStore) -> None:
    store.add_note(attestations(store, sampled), {"weights": 1})
    message = f"{store.location}/{attestations(store, sampled)}: the newest note has no digests; remove that file"
    with pytest.raises(ArtifactCorrupted, match=f"^{re.escape(message)}$"):
        store.verify(sampled, "sampled")


def test_a_store_that_cannot_be_written_is_still_checked(sampled: ArtifactRef, store: ArtifactStore) -> None:
    (store.path / "tmp").rmdir()
    (store.path / "tmp").touch()
    found = store.verify(sampled, "full")
    assert (found.num_full, found.num_sampled, found.num_attested, found.num_unattested) == (0, 1, 0, 1)
    assert str(found.attest_error).startswith(f"artifact store {store.location}: writing the note attest/")


def test_a_read_only_store_is_still_checked(mount_disk: Callable[[str], Path], checkpoint: Path) -> None:
    store = ArtifactStore(mount_disk("size=1m") / "store")
    ref = publish_sampled(store, checkpoint)
    mount_disk("remount,ro")
    assert "Read-only file system" in str(store.verify(ref, "full").attest_error)


def test_no_full_digest_is_recorded_of_a_file_that_is_written_to(store: ArtifactStore, checkpoint: Path) -> None:
    os.truncate(checkpoint, 128 * MIB)
    ref = publish_sampled(store, checkpoint)
    with (
        touched_all_the_time(checkpoint),
        pytest.raises(
            ArtifactError, match=r"^model:v0: weights changed while it was read \(.*/weights\); verify again"
        ),
    ):
        store.verify(ref, "full")
    assert store.newest_note(attestations(store, ref)) is None


def test_a_sampled_file_that_was_only_touched_passes(
    sampled: ArtifactRef, store: ArtifactStore, checkpoint: Path
) -> None:
    os.utime(checkpoint, ns=(1, 1))
    assert store.verify(sampled, "stat").num_sampled == 1


def test_a_sampled_file_that_was_written_to_is_sampled_again(
    sampled: ArtifactRef, store: ArtifactStore, checkpoint: Path
) -> None:
    flip_first(checkpoint)
    os.utime(checkpoint)
    with pytest.raises(ArtifactCorrupted, match=r"weights: expected sampled-blake3:.*, got sampled-blake3:"):
        store.verify(sampled, "stat")


def test_of_files_with_full_digests_sampling_reads_the_small_ones(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"big": "x" * (MIB + 1), "small": "x" * MIB})
    found = store.verify(ref, "sampled")
    assert (found.num_full, found.num_sampled, found.num_by_size, found.num_unattested) == (1, 0, 1, 0)


def test_sampling_finds_a_flip_in_a_small_file(publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "x" * MIB})
    flip(objects(store)[0], 5)
    with pytest.raises(ArtifactCorrupted, match=r"data:v0: a: expected blake3:.*, got blake3:"):
        store.verify(ref, "sampled")


def test_sampling_does_not_find_a_flip_in_a_large_file_with_a_full_digest(
    publish: Publisher, store: ArtifactStore
) -> None:
    ref = publish({"a": "x" * (MIB + 1)})
    flip(objects(store)[0], 0)
    assert store.verify(ref, "sampled").num_by_size == 1


@pytest.mark.parametrize("level", ["full", "sampled", "stat"])
def test_every_level_finds_a_cut_file(level: Level, publish: Publisher, store: ArtifactStore) -> None:
    ref = publish({"a": "x" * (MIB + 1)})
    overwrite(objects(store)[0], b"x")
    with pytest.raises(ArtifactCorrupted, match=f"data:v0: a: expected {MIB + 1} bytes, got 1 bytes"):
        store.verify(ref, level)


@pytest.mark.parametrize(("level", "num_full", "num_by_size"), [("full", 2, 0), ("stat", 0, 2)])
def test_files_with_full_digests_are_counted(
    level: Level, num_full: int, num_by_size: int, publish: Publisher, store: ArtifactStore
) -> None:
    assert store.verify(publish({"a": "x", "b/c": "yy"}), level) == Verification(
        level=level, num_files=2, num_bytes=3, num_full=num_full, num_sampled=0, num_by_size=num_by_size
    )


@pytest.mark.parametrize("level", ["full", "sampled"])
def test_contents_in_an_object_store_are_compared(level: Level, tmp_path: Path) -> None:
    store = ArtifactStore(f"memory://{tmp_path.name}-{level}")
    ref = Publisher(store, tmp_path)({"a": "hello"})
    assert store.verify(ref, level).num_full == 1
    (content,) = fsspec.filesystem("memory").find(f"{store.location.removeprefix('memory:/')}/objects")
    fsspec.filesystem("memory").pipe_file(content, b"jello")
    with pytest.raises(
        ArtifactCorrupted, match=r"data:v0: a: expected blake3:.*, got blake3:.* \(memory://.*\); rerun"
    ):
        store.verify(ref, level)
