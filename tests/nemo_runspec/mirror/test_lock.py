"""The lock of those who send to one server from one store."""

import stat
from pathlib import Path

import pytest

from nemo_runspec.errors import MirrorError
from nemo_runspec.mirror.lock import hold, is_locked


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o770, 0o775])
def test_whoever_may_write_the_directory_may_lock(mode: int, tmp_path: Path) -> None:
    folder = tmp_path / "mirrors"
    folder.mkdir()
    folder.chmod(mode)
    with hold(folder / "wandb.lock", timeout_s=1.0):
        pass
    assert stat.S_IMODE((folder / "wandb.lock").stat().st_mode) == mode & 0o666


def test_a_lock_is_seen_while_it_is_held_and_can_be_had_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "new" / "wandb.lock"
    assert not is_locked(path)
    with hold(path, timeout_s=1.0):
        assert is_locked(path)
    assert not is_locked(path)
    with hold(path, timeout_s=1.0):
        assert is_locked(path)


def test_a_lock_that_is_not_given_back_is_told(tmp_path: Path) -> None:
    path = tmp_path / "wandb.lock"
    with (
        hold(path, timeout_s=1.0),
        pytest.raises(MirrorError, match="another process still logs to W&B; wait"),
        hold(path, timeout_s=0.2),
    ):
        pass
