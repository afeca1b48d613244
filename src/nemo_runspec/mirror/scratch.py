"""Directories in which W&B's client works: whoever makes one removes it, and what killed processes left of theirs."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from nemo_runspec.mirror.lock import is_locked

PREFIX = "nemotron-wandb-"
LOG = "log"
_YOUNG_S = 60.0
"""Younger ones may not be locked yet."""


def make_scratch() -> tuple[Path, BinaryIO]:
    """A new directory and the file `log` in it.

    It is taken to be in use until that file is closed, here and in every process that inherits it.
    """
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    log = (directory / LOG).open("wb")
    with suppress(OSError):  # without locks nobody can tell what is left over
        fcntl.flock(log, fcntl.LOCK_EX)
        _remove_left_over(directory.parent)
    return directory, log


@contextmanager
def scratch() -> Iterator[Path]:
    """Such a directory for the block."""
    directory, log = make_scratch()
    try:
        yield directory
    finally:
        log.close()
        shutil.rmtree(directory, ignore_errors=True)


def _remove_left_over(parent: Path) -> None:
    for directory in parent.glob(f"{PREFIX}*"):
        if _is_left_over(directory):
            shutil.rmtree(directory, ignore_errors=True)


def _is_left_over(directory: Path) -> bool:
    with suppress(OSError):  # another process removes it
        status = directory.stat(follow_symlinks=False)
        is_old = time.time() - status.st_mtime > _YOUNG_S
        return (
            is_old and status.st_uid == os.getuid() and (directory / LOG).is_file() and not is_locked(directory / LOG)
        )
    return False
