"""A cancel that comes twice: by the server's word, and as a worker's SIGTERM while the stage ends because of it."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from small_recipe import options, write_recipe

from nemo_runspec.errors import StageCancelled
from nemotron.tasks.interrupts import Interrupts
from nemotron.tasks.stage import run_stage

ENDS_SLOWLY = """
    import time
    folder = Path({folder!r})
    (folder / "begun").touch()
    try:
        time.sleep(60)
    finally:
        (folder / "ending").touch()
        time.sleep(1)
        (folder / "ended").touch()
"""


class Terminated(BaseException):
    """As Prefect's own, which is raised wherever the process happens to be."""


@pytest.fixture
def _raises_when_terminated() -> Iterator[None]:
    def end(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    yield
    signal.signal(signal.SIGTERM, before)


def terminate_once_there(path: Path) -> None:
    """Send this process a SIGTERM when the file is there."""
    while not path.exists():
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("_raises_when_terminated")
def test_the_stage_is_cancelled_and_its_processes_have_ended(tmp_path: Path) -> None:
    stage = write_recipe(tmp_path, body=ENDS_SLOWLY.format(folder=str(tmp_path)).strip())

    def is_cancelled(*, now: bool = False) -> bool:  # noqa: ARG001
        return (tmp_path / "begun").exists()

    with ThreadPoolExecutor() as pool:
        pool.submit(terminate_once_there, tmp_path / "ending")
        with pytest.raises(StageCancelled):
            run_stage(stage, options(tmp_path), {}, Interrupts(is_cancelled=is_cancelled))
    assert (tmp_path / "ended").exists()
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)
