"""Fresh projects, and what processes this one starts."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.artifacts.refs import Producer

STARTS = ("subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system")
LOOKS = ("git", "nvidia-smi")
"""Programs that a refused command may ask: they start and change nothing."""
_started: list[str] = []


def _note_start(event: str, args: tuple[object, ...]) -> None:
    if event in STARTS and not (event == "subprocess.Popen" and str(args[0]).rpartition("/")[2] in LOOKS):
        _started.append(f"{event} {args}")


@pytest.fixture(scope="session", autouse=True)
def _audit() -> None:
    sys.addaudithook(_note_start)  # for good: hooks cannot be removed


@pytest.fixture
def started() -> list[str]:
    """The processes that this one starts during the test."""
    _started.clear()
    return _started


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory to be in, of a user who has nothing set; the environment and logging are restored after."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NEMOTRON_", "PREFECT_"))}
    own = {"HOME": str(tmp_path / "home"), "PREFECT_HOME": str(tmp_path / "prefect"), "COLUMNS": "100"}
    loggers = [logging.getLogger(name) for name in ("nemo_runspec", "nemotron")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    with mock.patch.dict(os.environ, {**kept, **own}, clear=True):
        yield folder
    for logger, handlers, level, propagate in before:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def publish_artifacts(root: Path) -> None:
    """Put data and a model of nano3 into the store, the data with the alias `best`."""
    store = ArtifactStore(root / ".nemotron" / "artifacts")
    content = root / "content"
    content.write_text("x")
    producer = Producer(run_id="r1", stage="s", fingerprint="f")
    kinds = {"nano3-sft-data": "SFTDataArtifact", "nano3-pretrain-model": "ModelArtifact"}
    for name, kind in kinds.items():
        store.publish(content, name=name, type=kind, metadata={}, producer=producer, aliases=["best"])
