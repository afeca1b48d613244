import logging
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from nemotron.recipes.nano3.checkpoint import STALE_S, Checkpoints, find_damage


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(folder=tmp_path / "checkpoints", keep=2)


def save(checkpoints: Checkpoints, *steps: int) -> None:
    _ = [checkpoints.save(step, {"weight": torch.full((100,), float(step)), "loss": 0.5}) for step in steps]


def latest_step(checkpoints: Checkpoints) -> int | None:
    found = checkpoints.load_latest()
    return None if found is None else found.step


def state_file(checkpoints: Checkpoints, step: int) -> Path:
    return checkpoints.folder / f"iter_{step:07d}" / "state.pt"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def remove_manifest(path: Path) -> None:
    path.with_name("manifest.json").unlink()


def tear_manifest(path: Path) -> None:
    path.with_name("manifest.json").write_text('{"step": 6, "si')


def strip_manifest(path: Path) -> None:
    path.with_name("manifest.json").write_text('{"step": 6}')


def test_a_loaded_checkpoint_is_what_was_saved(checkpoints: Checkpoints) -> None:
    save(checkpoints, 3)
    found = checkpoints.load_latest()
    assert found is not None
    assert (found.step, found.state["loss"]) == (3, 0.5)
    assert torch.equal(found.state["weight"], torch.full((100,), 3.0))


def test_there_is_none_before_the_first(checkpoints: Checkpoints) -> None:
    assert checkpoints.load_latest() is None
    assert checkpoints.steps() == []


def test_the_newest_is_loaded(checkpoints: Checkpoints) -> None:
    save(checkpoints, 9, 10)
    assert latest_step(checkpoints) == 10


def test_only_the_newest_are_kept(checkpoints: Checkpoints) -> None:
    save(checkpoints, 3, 6, 9, 12)
    assert checkpoints.steps() == [9, 12]


def test_a_checkpoint_saved_again_takes_the_place_of_the_old_one(checkpoints: Checkpoints) -> None:
    save(checkpoints, 3)
    checkpoints.save(3, {"loss": 0.25})
    found = checkpoints.load_latest()
    assert found is not None
    assert found.state == {"loss": 0.25}


def test_steps_beyond_seven_digits_are_found(checkpoints: Checkpoints) -> None:
    save(checkpoints, 9_999_999, 10_000_000)
    assert latest_step(checkpoints) == 10_000_000


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, r"state\.pt has \d+ bytes, expected \d+"),
        (empty, r"state\.pt has 0 bytes, expected \d+"),
        (flip_a_byte, r"state\.pt differs from its digest"),
        (remove, r"FileNotFoundError: .*state\.pt"),
        (remove_manifest, r"FileNotFoundError: .*manifest\.json"),
        (tear_manifest, r"JSONDecodeError: "),
        (strip_manifest, r"KeyError: 'size'"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None], said: str
) -> None:
    save(checkpoints, 3, 6)
    damage(state_file(checkpoints, 6))
    assert latest_step(checkpoints) == 3
    ((_, level, message),) = caplog.record_tuples
    assert level == logging.WARNING
    assert re.search(rf"iter_0000006 is damaged \({said}.*\); trying the one before", message)


def test_where_all_are_damaged_there_is_none(checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
    save(checkpoints, 3, 6)
    truncate(state_file(checkpoints, 3))
    flip_a_byte(state_file(checkpoints, 6))
    assert checkpoints.load_latest() is None
    assert len(caplog.records) == 2


def test_a_sound_checkpoint_gives_no_warning(checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
    save(checkpoints, 3)
    checkpoints.load_latest()
    assert caplog.records == []


def leave_partial(checkpoints: Checkpoints, *, host: str, pid: int) -> Path:
    """What a save of step 6 leaves whose process ended in the middle, or is still at it."""
    checkpoints.folder.mkdir(exist_ok=True)
    partial = checkpoints.folder / f"iter_0000006.partial-{host}-{pid}-{'0' * 32}"
    partial.mkdir()
    (partial / "state.pt").write_bytes(b"half")
    return partial


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_what_a_crash_left_of_a_save_is_ignored_and_then_removed(checkpoints: Checkpoints) -> None:
    leave_partial(checkpoints, host=socket.gethostname(), pid=dead_pid())
    assert checkpoints.load_latest() is None
    save(checkpoints, 6)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["iter_0000006"]


def test_what_a_live_process_is_saving_is_left_alone(checkpoints: Checkpoints) -> None:
    partial = leave_partial(checkpoints, host=socket.gethostname(), pid=os.getpid())
    save(checkpoints, 6)
    assert partial.is_dir()


def test_what_another_machine_left_is_removed_when_it_is_old(checkpoints: Checkpoints) -> None:
    fresh = leave_partial(checkpoints, host="node-7", pid=dead_pid())
    old = leave_partial(checkpoints, host="node-8", pid=1)
    hours_ago = time.time() - 2 * STALE_S
    os.utime(old / "state.pt", (hours_ago, hours_ago))
    os.utime(old, (hours_ago, hours_ago))
    save(checkpoints, 6)
    assert (fresh.is_dir(), old.is_dir()) == (True, False)


def test_two_runs_that_save_the_same_steps_at_once_leave_sound_checkpoints(checkpoints: Checkpoints) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: save(checkpoints, *[3, 6] * 25), range(2)))
    assert [find_damage(path) for path in sorted(checkpoints.folder.iterdir())] == [None, None]
    assert latest_step(checkpoints) == 6


def test_other_files_are_no_checkpoints(checkpoints: Checkpoints) -> None:
    save(checkpoints, 3)
    _ = [(checkpoints.folder / name).mkdir() for name in ("iter_9", "iter_0000009~", "latest")]
    assert checkpoints.steps() == [3]


def test_a_damaged_later_checkpoint_does_not_crowd_out_new_ones(tmp_path: Path) -> None:
    checkpoints = Checkpoints(folder=tmp_path, keep=1)
    save(checkpoints, 6)
    truncate(state_file(checkpoints, 6))
    save(checkpoints, 4)
    assert latest_step(checkpoints) == 4
