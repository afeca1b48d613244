"""What `nemotron artifacts verify` says of versions whose contents were digested in part only."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nemo_runspec.artifacts import ArtifactStore, Producer
from nemo_runspec.artifacts.verification import Level, Verification
from nemotron.cli.artifact_checks import check_all, compared_text

Check = Callable[[Level], list[str]]
SIZE = "1 file, 8.4 MB"


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def check(store: ArtifactStore, tmp_path: Path) -> Check:
    """Checks the store, whose one version is a referenced checkpoint with a sampled digest; the lines said."""
    checkpoint = tmp_path / "iter_10" / "weights"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"w" * (8 << 20))
    store.publish(
        checkpoint.parent,
        name="model",
        type="ModelArtifact",
        metadata={},
        producer=Producer(run_id="run-1", stage="train", fingerprint="f0"),
        policy="reference",
        digest="sampled",
    )

    def check_model(level: Level) -> list[str]:
        lines: list[str] = []
        check_all(store, ["model:v0"], level=level, say=lines.append)
        return lines

    return check_model


def build_verification(*, num_full: int = 0, num_sampled: int = 0, num_by_size: int = 0) -> Verification:
    return Verification(
        level="sampled",
        num_files=num_full + num_sampled + num_by_size,
        num_bytes=0,
        num_full=num_full,
        num_sampled=num_sampled,
        num_by_size=num_by_size,
    )


@pytest.mark.parametrize(("level", "how"), [("sampled", "by sample"), ("stat", "by size only")])
def test_less_than_a_full_check_says_so_and_how_to_get_one(level: Level, how: str, check: Check) -> None:
    line, total = check(level)
    assert line == f"model:v0  ok   {SIZE}, compared {how}; no full digest of 1 file yet, --level full records it"
    assert total.endswith(f"compared {how}: all ok")


def test_the_first_full_check_says_that_there_was_nothing_to_compare_with(check: Check) -> None:
    line, total = check("full")
    assert line == (
        f"model:v0  ok   {SIZE}, compared by sample; 1 full digest recorded now, with none to compare with before"
    )
    assert total.endswith("compared by sample: all ok")


def test_the_second_full_check_is_one(check: Check) -> None:
    check("full")
    assert check("full")[0] == f"model:v0  ok   {SIZE}, compared in full"


def test_a_full_digest_that_cannot_be_recorded_is_told(check: Check, store: ArtifactStore) -> None:
    (store.path / "tmp").rmdir()
    (store.path / "tmp").touch()
    assert check("full")[0].startswith(
        f"model:v0  ok   {SIZE}, compared by sample; 1 full digest could not be recorded: "
        f"artifact store {store.location}: writing the note attest/"
    )


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ([build_verification(num_full=2)], "compared in full"),
        ([build_verification(num_full=1, num_sampled=1_000)], "compared 1 file in full, 1,000 by sample"),
        (
            [build_verification(num_full=1), build_verification(num_full=1, num_sampled=3, num_by_size=4)],
            "compared 2 files in full, 3 by sample, 4 by size only",
        ),
    ],
)
def test_it_is_told_how_many_files_were_compared_in_which_way(found: list[Verification], text: str) -> None:
    assert compared_text(found) == text
