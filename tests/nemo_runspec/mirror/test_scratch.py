"""Directories for W&B's own files: gone when their process ends, and after a kill when the next one begins."""

import os
import shutil
import time
from pathlib import Path

import pytest

from nemo_runspec.mirror.lock import hold
from nemo_runspec.mirror.scratch import LOG, PREFIX, make_scratch


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process's temporary files go."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def old(temporary: Path) -> Path:
    """A directory that was made an hour ago."""
    folder = temporary / f"{PREFIX}old"
    folder.mkdir()
    (folder / LOG).write_text("")
    age(folder)
    return folder


def age(folder: Path) -> None:
    os.utime(folder, (time.time() - 3600,) * 2)


def make() -> Path:
    folder, log = make_scratch()
    log.close()
    return folder


def test_what_a_killed_process_left_is_removed_when_the_next_begins(old: Path, temporary: Path) -> None:
    made = make()
    assert not old.exists()
    assert list(temporary.iterdir()) == [made]


def test_what_a_process_is_at_work_in_stays(old: Path) -> None:
    with hold(old / LOG, timeout_s=1.0):
        age(old)
        make()
    assert old.is_dir()


def test_what_another_process_has_just_made_stays(old: Path) -> None:
    os.utime(old)
    make()
    assert old.is_dir()


def test_what_somebody_else_made_under_such_a_name_stays(temporary: Path) -> None:
    folder = temporary / f"{PREFIX}other"
    folder.mkdir()
    age(folder)
    make()
    assert folder.is_dir()


def test_a_directory_is_at_work_so_long_as_its_log_is_open() -> None:
    folder, log = make_scratch()
    age(folder)
    make()
    assert folder.is_dir()
    log.close()
    shutil.rmtree(folder)
