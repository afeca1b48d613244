import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from nemo_runspec.artifacts.digests import digest_file
from nemo_runspec.artifacts.durable import ensure_directory, link_new, place, scratch_directory
from nemo_runspec.artifacts.hashing import canonical_json, copy_and_digest
from nemo_runspec.artifacts.numbered import commit_next, list_numbers
from nemo_runspec.artifacts.posix_backend import PosixBackend

DAY_S = 24 * 3600


def commit_text(backend: PosixBackend, render: Callable[[int], bytes] = lambda number: str(number).encode()) -> int:
    with backend.writing() as writer:
        return commit_next(backend, writer, "numbered", render)


@pytest.fixture
def backend(tmp_path: Path) -> PosixBackend:
    (tmp_path / "numbered").mkdir()
    return PosixBackend(tmp_path)


def test_numbers_are_listed_in_order(backend: PosixBackend) -> None:
    (backend.path / "numbered" / "v10.json").touch()
    (backend.path / "numbered" / "v9.json").touch()
    (backend.path / "numbered" / "v0.json").touch()
    assert list_numbers(backend, "numbered") == [0, 9, 10]


@pytest.mark.parametrize("name", ["v01.json", "v1.json.x", "x", "v-1.json", "v1", "V1.json"])
def test_what_is_not_numbered_is_not_listed(name: str, backend: PosixBackend) -> None:
    (backend.path / "numbered" / name).touch()
    assert list_numbers(backend, "numbered") == []


def test_a_directory_that_is_not_there_has_no_numbers(backend: PosixBackend) -> None:
    assert list_numbers(backend, "none") == []


def test_a_directory_on_a_disk_that_is_away_is_not_taken_for_empty(backend: PosixBackend) -> None:
    (backend.path / "away").symlink_to("not-mounted")
    with pytest.raises(FileNotFoundError):
        list_numbers(backend, "away")


def test_the_first_number_is_0(tmp_path: Path) -> None:
    assert commit_text(PosixBackend(tmp_path / "new")) == 0


def test_the_next_number_follows_the_highest(backend: PosixBackend) -> None:
    (backend.path / "numbered" / "v4.json").touch()
    assert commit_text(backend) == 5
    assert (backend.path / "numbered" / "v5.json").read_text() == "5"


def test_a_number_taken_meanwhile_is_passed_over(backend: PosixBackend) -> None:
    def render(number: int) -> bytes:
        (backend.path / "numbered" / "v0.json").touch()  # as a faster writer would
        return str(number).encode()

    assert commit_text(backend, render) == 1
    assert (backend.path / "numbered" / "v1.json").read_text() == "1"


def test_a_name_that_is_taken_keeps_its_content(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("first")
    (tmp_path / "new").write_text("second")
    assert not link_new(tmp_path / "new", tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "first"


def test_what_is_placed_is_read_only(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("x")
    place(tmp_path / "new", tmp_path / "deep" / "target")
    assert (tmp_path / "deep" / "target").stat().st_mode & 0o777 == 0o444


def test_a_directory_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    ensure_directory(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_scratch_directory_goes_when_the_work_fails(tmp_path: Path) -> None:
    with suppress(RuntimeError), scratch_directory(tmp_path) as scratch:
        (scratch / "a").touch()
        raise RuntimeError
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(("age_s", "left"), [(DAY_S + 60, []), (DAY_S - 60, ["killed"])])
def test_what_a_killed_process_left_goes_after_a_day(age_s: int, left: list[str], tmp_path: Path) -> None:
    killed = tmp_path / "tmp" / "killed"
    killed.mkdir(parents=True)
    (killed / "half").touch()
    os.utime(killed, (time.time() - age_s,) * 2)
    with scratch_directory(tmp_path):
        pass
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == left


def test_a_json_value_has_one_spelling() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": {"ü": True}}) == b'{"a":{"\\u00fc":true},"b":[1,2.5,null]}'


@pytest.mark.parametrize(
    ("value", "error"), [(float("nan"), ValueError), ({"a": float("inf")}, ValueError), ({1}, TypeError)]
)
def test_what_is_not_finite_json_has_none(value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        canonical_json(value)


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 8193], ids=["empty", "short", "over 2 MiB"])
def test_a_copy_is_digested_as_it_is_written(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(content)
    digest, size = copy_and_digest(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == content
    assert (digest, size) == (digest_file(tmp_path / "target"), len(content))


def test_a_copy_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "source").touch()
    with pytest.raises(FileExistsError):
        copy_and_digest(tmp_path / "source", tmp_path / "source")
