"""Of the ranks of a job one asks the store: rank 0 answers in a file, the others read what it found.

So all ranks work on the same version, and a store is asked once. The files are in the directory that the ranks share,
`$NEMOTRON_JOB_DIR`, else `$NEMO_RUN_DIR`; without one, each rank asks for itself. A file's name contains all that its
answer holds for: the run, the job, its attempt, its restart and the question.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import nemo_runspec.errors
from nemo_runspec.errors import ArtifactError, RequirementError, RunspecError

ENV_TIMEOUT = "NEMOTRON_RANK_TIMEOUT_S"
_TIMEOUT_S = 600
_SILENCE_S = 120.0
_BEAT_S = 5.0
_POLL_S = 0.1
_ATTEMPT_VARIABLES = (
    *("NEMOTRON_RUN_ID", "NEMOTRON_STAGE", "NEMOTRON_JOB_DIR"),
    *("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"),
    *("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"),
    *("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE"),
)
"""What is the same on all ranks of an attempt, and of which something differs in each attempt."""

_known: dict[Path, Any] = {}
"""What this process has answered or was told."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This rank among `world_size`; `folder` is where those of this attempt tell each other, None if they cannot."""

    rank: int
    world_size: int
    folder: Path | None
    timeout_s: float = _TIMEOUT_S

    @classmethod
    def from_environment(cls) -> Self:
        """What the launcher says; without one, a rank alone."""
        shared = os.environ.get("NEMOTRON_JOB_DIR") or os.environ.get("NEMO_RUN_DIR")
        return cls(
            rank=_number("RANK", default=0),
            world_size=_number("WORLD_SIZE", default=1),
            folder=Path(shared, "rank-answers", _attempt(os.environ)) if shared else None,
            timeout_s=_number(ENV_TIMEOUT, default=_TIMEOUT_S),
        )

    def ask(self, question: str, answer: Callable[[], Any]) -> Any:
        """What `answer()` gives, which is JSON; called on rank 0 only if there are others, and once a process.

        Raises:
            RunspecError: that of rank 0, or it gave no sign of life for `timeout_s` seconds.
        """
        if self.world_size == 1 or self.folder is None:
            return answer()
        path = self.folder / f"{hashlib.sha256(question.encode()).hexdigest()[:32]}.json"
        if path not in _known:
            _known[path] = self._answer(path, answer) if self.rank == 0 else self._wait(path, question)
        return _known[path]

    def _answer(self, path: Path, answer: Callable[[], Any]) -> Any:
        failure: Exception | None = None
        with _folder_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
        with _beating(path, every_s=min(_BEAT_S, self.timeout_s / 4)):
            try:
                document = {"answer": answer()}
            except Exception as error:
                failure, document = error, {"error": str(error) or type(error).__name__, "kind": type(error).__name__}
            with _folder_errors(path.parent):
                _write(path, document)
        if failure is not None:
            raise failure
        return document["answer"]

    def _wait(self, path: Path, question: str) -> Any:
        deadline, last_beat = time.monotonic() + self.timeout_s, None
        while time.monotonic() < deadline:
            with suppress(FileNotFoundError):
                return _read(path)
            beat = _read_beat(path)
            if beat is not None and beat != last_beat:
                last_beat, deadline = beat, time.monotonic() + min(self.timeout_s, _SILENCE_S)
            time.sleep(_POLL_S)
        seen = "did not start to" if last_beat is None else "stopped while it was to"
        raise ArtifactError(
            f"rank {self.rank}: rank 0 {seen} answer {question!r} in {path.parent} ({ENV_TIMEOUT} = "
            f"{self.timeout_s:g}); see its log, and whether all nodes share that directory"
        )


def _write(path: Path, document: Mapping[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    partial.write_text(json.dumps(document), encoding="utf-8")
    partial.replace(path)


def _read(path: Path) -> Any:
    document = json.loads(path.read_text(encoding="utf-8"))
    if "error" not in document:
        return document["answer"]
    kind = getattr(nemo_runspec.errors, document["kind"], None)
    if isinstance(kind, type) and issubclass(kind, RunspecError):
        raise kind(document["error"])
    raise ArtifactError(f"rank 0: {document['kind']}: {document['error']}")


@contextmanager
def _folder_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RequirementError(
            f"{folder}: {error.strerror or error}; rank 0 tells the other ranks there what it found: make it a "
            "directory with free space that all ranks can write"
        ) from error


@contextmanager
def _beating(path: Path, *, every_s: float) -> Iterator[None]:
    """Give signs of life within the block: what takes long is not what hangs."""
    beat, ended = _beat_path(path), threading.Event()

    def work() -> None:
        while True:
            with suppress(OSError):
                beat.write_text(uuid.uuid4().hex, encoding="utf-8")
            if ended.wait(every_s):
                return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(OSError):
            beat.unlink()


def _read_beat(path: Path) -> str | None:
    with suppress(OSError):
        return _beat_path(path).read_text(encoding="utf-8") or None
    return None


def _beat_path(path: Path) -> Path:
    return path.with_suffix(".at-work")


def _attempt(environ: Mapping[str, str]) -> str:
    """A name for this attempt, of which the first part is for people."""
    known = {name: environ.get(name) for name in _ATTEMPT_VARIABLES} | {"launch": _launch(environ)}
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
    return f"{environ.get('SLURM_JOB_ID', 'local')}-{environ.get('TORCHELASTIC_RESTART_COUNT', '0')}-{digest}"


def _launch(environ: Mapping[str, str]) -> str | None:
    """What tells one start of torchrun on a single node from another: its run id is "none" unless one is given.

    torchrun makes a new directory each time, in which each rank has its error file.
    """
    error_file = environ.get("TORCHELASTIC_ERROR_FILE")
    if error_file is None or environ.get("LOCAL_WORLD_SIZE") != environ.get("WORLD_SIZE"):
        return None
    return str(Path(error_file).parent.parent)


def _number(name: str, *, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default
