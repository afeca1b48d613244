from pathlib import Path

import pytest

from nemo_runspec.stop import CHECK_INTERVAL_S, ENV_STOP_FILE, StopFile, StopRequested, stop_requested


def test_nobody_asks_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENV_STOP_FILE, raising=False)
    assert not stop_requested()


def test_the_file_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_STOP_FILE, str(tmp_path / "stop"))
    (tmp_path / "stop").touch()
    assert stop_requested()


def test_the_file_is_looked_for_once_a_second_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("nemo_runspec.stop.time.monotonic", lambda: now)
    stop = StopFile(str(tmp_path / "stop"))
    assert not stop.exists()
    (tmp_path / "stop").touch()
    assert not stop.exists()
    now += CHECK_INTERVAL_S
    assert stop.exists()


def test_a_stop_ends_a_script_with_75_and_no_handler_of_errors_catches_it() -> None:
    stop = StopRequested(7)
    assert stop.code == 75
    assert not isinstance(stop, Exception)
