from pathlib import Path

import pytest

from nemo_runspec.errors import StoreError
from nemo_runspec.store_location import absolute_location


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("s3://bucket/a/", "s3://bucket/a"),
        ("s3://", "s3://"),
        ("memory://x", "memory://x"),
        ("/a b/store", "/a b/store"),
        ("file:///a/store", "/a/store"),
        ("file:///a%20b/store", "/a b/store"),
        ("store", "/here/store"),
        (Path("store"), "/here/store"),
    ],
)
def test_a_store_is_named_so_that_it_is_found_from_everywhere(given: str | Path, named: str) -> None:
    assert absolute_location(given, Path("/here")) == named


def test_a_relative_path_is_below_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_location("store") == str(tmp_path / "store")


def test_a_home_directory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert absolute_location("~/store") == "/home/me/store"


def test_a_home_directory_that_is_not_there_is_told() -> None:
    with pytest.raises(
        StoreError, match=r"artifact store ~nobody-is-called-so/x: .*; set NEMOTRON_STORE to a directory"
    ):
        absolute_location("~nobody-is-called-so/x")
