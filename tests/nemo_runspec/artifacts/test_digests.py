import hashlib
import io
import os
import time
from pathlib import Path

import pytest

from nemo_runspec.artifacts.backend import Algorithm
from nemo_runspec.artifacts.digests import (
    default_algorithm,
    digest_file,
    digest_like,
    digest_stream,
    is_sampled,
    new_hasher,
    sampled_digest,
)
from nemo_runspec.errors import ArtifactError

MIB = 1 << 20
# The input of BLAKE3's published test vectors.
PATTERN = bytes(range(251)) * 40_000


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """8 MiB, of which the MiB at each end and 64 blocks of 64 KiB are sampled."""
    path = tmp_path / "big"
    path.write_bytes(PATTERN[: 8 * MIB])
    return path


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


# https://github.com/BLAKE3-team/BLAKE3/blob/1.8.2/test_vectors/test_vectors.json
@pytest.mark.parametrize(
    ("num_bytes", "expected"),
    [
        (0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
        (1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
        (1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"),
        (1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"),
        (102400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"),
    ],
)
def test_blake3_gives_the_published_digests(num_bytes: int, expected: str) -> None:
    assert digest_stream(io.BytesIO(PATTERN[:num_bytes]), "blake3") == f"blake3:{expected}"


# FIPS 180-2, appendix B, and the digest of nothing.
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ],
)
def test_sha256_gives_the_published_digests(content: bytes, expected: str) -> None:
    assert digest_stream(io.BytesIO(content), "sha256") == f"sha256:{expected}"


@pytest.mark.parametrize("algorithm", ["blake3", "sha256"])
@pytest.mark.parametrize("num_bytes", [0, 1, MIB, MIB + 1, 3 * MIB])
def test_a_file_is_digested_as_if_at_once(num_bytes: int, algorithm: Algorithm, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(PATTERN[:num_bytes])
    hasher = new_hasher(algorithm)
    hasher.update(PATTERN[:num_bytes])
    assert digest_file(tmp_path / "file", algorithm) == f"{algorithm}:{hasher.hexdigest()}"


def test_blake3_is_the_default_where_it_is_installed(big: Path) -> None:
    assert default_algorithm() == "blake3"
    assert digest_file(big).startswith("blake3:")
    assert sampled_digest(big).startswith("sampled-blake3:")


def test_a_sampled_digest_of_a_small_file_is_of_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    expected = hashlib.sha256(b"nemotron-sampled-v1\0" + b"\0\0\0\0\0\0\0\x03" + b"abc").hexdigest()
    assert sampled_digest(tmp_path / "file", "sha256") == f"sampled-sha256:{expected}"


# Computed once by another program from the description of the parts: stores that exist depend on them.
@pytest.mark.parametrize(
    ("num_bytes", "expected"),
    [
        (6 * MIB, "da54714da9c6a8f1420d1c9d0e8161de70ef9e8e8331ada4bcc11de1c7d028d3"),
        (6 * MIB + 1, "c49901918b8e669f89b26c44c8a5e79da71c68cde1dfbf5074f5fa9a7702a61e"),
        (8 * MIB, "df7006e19318a7162c6d4e3080c7ea63ad5227b48aad9c2bb6f3c76ccd22fb66"),
    ],
)
def test_what_is_sampled_stays_the_same(num_bytes: int, expected: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(PATTERN[:num_bytes])
    assert sampled_digest(tmp_path / "file", "sha256") == f"sampled-sha256:{expected}"


@pytest.mark.parametrize("offset", [0, MIB - 1, MIB + 49_152, 4 * MIB + 49_152, 7 * MIB - 49_152, 7 * MIB, 8 * MIB - 1])
def test_a_change_within_the_parts_changes_a_sampled_digest(offset: int, big: Path) -> None:
    before = sampled_digest(big)
    flip(big, offset)
    assert sampled_digest(big) != before


@pytest.mark.parametrize("offset", [MIB, MIB + 49_152 + 32_768, 7 * MIB - 1])
def test_a_change_between_the_parts_does_not_change_a_sampled_digest(offset: int, big: Path) -> None:
    sampled, full = sampled_digest(big), digest_file(big)
    flip(big, offset)
    assert sampled_digest(big) == sampled
    assert digest_file(big) != full


def test_a_sampled_digest_tells_files_of_other_sizes(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(50 * 10**9)
    before = sampled_digest(tmp_path / "file")
    os.truncate(tmp_path / "file", 50 * 10**9 - 1)
    assert sampled_digest(tmp_path / "file") != before


def test_a_sampled_digest_depends_on_the_content_alone(big: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(big.read_bytes())
    os.utime(big, ns=(1, 1))
    assert sampled_digest(big) == sampled_digest(tmp_path / "copy")


def test_50_gb_are_sampled_in_well_under_a_second(tmp_path: Path) -> None:
    with (tmp_path / "checkpoint").open("wb") as file:
        file.truncate(50 * 10**9)
    begin = time.process_time()
    sampled_digest(tmp_path / "checkpoint")
    assert time.process_time() - begin < 0.2


@pytest.mark.parametrize(
    ("digest", "sampled"),
    [("blake3:00", False), ("sha256:00", False), ("sampled-blake3:00", True), ("sampled-sha256:00", True)],
)
def test_a_digest_tells_by_its_name_how_it_was_made(digest: str, sampled: bool, big: Path) -> None:
    assert is_sampled(digest) is sampled
    assert digest_like(big, digest).partition(":")[0] == digest.partition(":")[0]


@pytest.mark.parametrize("digest", ["blake3:00", "sha256:00", "sampled-blake3:00"])
def test_a_stream_is_digested_as_its_file_is(digest: str, big: Path) -> None:
    assert digest_like(io.BytesIO(big.read_bytes()), digest) == digest_like(big, digest)


@pytest.mark.parametrize("digest", ["", "00", "md5:00", "sampled-md5:00", "sampled-:00", "BLAKE3:00", "x" * 1000])
def test_a_digest_that_nobody_here_makes_is_refused(digest: str, big: Path) -> None:
    with pytest.raises(ArtifactError, match=r"^digest '.{0,80}': no known algorithm; known: blake3, sha256, each also"):
        digest_like(big, digest)
