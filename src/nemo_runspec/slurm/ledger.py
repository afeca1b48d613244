"""The durable record of a stage's attempts: one directory each, of files that are written once and never changed.

<stage's work dir>/attempts/a1/
    intent.json      what is about to be submitted, written before sbatch is called; its key is the job's name
    submitted.json   the job's id
    cancel.json      somebody wants it ended
    verdict.json     how it ended
    job.sh payload.sh env.sh code/ log.txt    what the job needs and leaves
    claim heartbeat stop done.json            written by the job itself, see `job_script`

Whoever comes later, after a crash too, knows from these files and from Slurm where the stage stands.
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nemo_runspec.artifacts.durable import ensure_directory, sync_directory, write_new
from nemo_runspec.errors import RequirementError
from nemo_runspec.slurm.states import Ending

_NAME = re.compile(r"a([1-9][0-9]*)")


@dataclass(frozen=True, kw_only=True)
class Intent:
    """An attempt that is about to be submitted.

    `created` in seconds since the epoch, by this machine's clock; `first_step` is the step of the checkpoint that it
    goes on from, 0 without one.
    """

    key: str
    stage: str
    run_id: str
    profile: str
    number: int
    created: float
    first_step: int = 0
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How an attempt ended. Times in seconds since the epoch; `saved_step` is the newest checkpoint's step."""

    ending: Ending
    job_id: int | None
    exit_code: str
    reason: str
    nodes: str
    submitted: float | None
    started: float | None
    ended: float | None
    num_gpus: int
    saved_step: int

    @property
    def gpu_hours(self) -> float:
        """GPUs times hours that the job held them."""
        return self.num_gpus * self.run_s / 3600

    @property
    def run_s(self) -> float:
        """Seconds between start and end."""
        return self._span(self.started, self.ended)

    @property
    def queue_wait_s(self) -> float:
        """Seconds between submission and start."""
        return self._span(self.submitted, self.started)

    @staticmethod
    def _span(begin: float | None, end: float | None) -> float:
        return max(0.0, end - begin) if begin is not None and end is not None else 0.0


def verdict_without_run(ending: Ending, job_id: int | None, reason: str) -> Verdict:
    """On an attempt whose job never ran."""
    return Verdict(
        ending=ending,
        job_id=job_id,
        exit_code="",
        reason=reason,
        nodes="",
        submitted=None,
        started=None,
        ended=None,
        num_gpus=0,
        saved_step=0,
    )


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt: its directory and its intent; `is_new` where this very process wrote it just now."""

    folder: Path
    intent: Intent
    is_new: bool = False

    @property
    def log_path(self) -> Path:
        """What the batch script and all its steps print."""
        return self.folder / "log.txt"

    def job_id(self) -> int | None:
        """The job that does this attempt, None while none is known."""
        record = read_record(self.folder / "submitted.json")
        return int(record["job_id"]) if record else None

    def record_job(self, job_id: int) -> None:
        """Remember which job does it."""
        write_once(self.folder / "submitted.json", {"job_id": job_id, "recorded": time.time()})

    def verdict(self) -> Verdict | None:
        """How it ended, None while that is not known."""
        record = read_record(self.folder / "verdict.json")
        return Verdict(**{**record, "ending": Ending(record["ending"])}) if record else None

    def record_verdict(self, verdict: Verdict) -> Verdict:
        """Remember how it ended; the first verdict stays."""
        write_once(self.folder / "verdict.json", asdict(verdict))
        return self.verdict() or verdict

    def is_cancelled(self) -> bool:
        """Whether somebody wanted it ended."""
        return (self.folder / "cancel.json").exists()

    def record_cancel(self, why: str) -> None:
        """Remember that it is to end, before Slurm is asked: a cancel that is cut short can be finished later."""
        write_once(self.folder / "cancel.json", {"why": why, "at": time.time()})


def attempts(work_dir: Path) -> list[Attempt]:
    """The stage's attempts, oldest first."""
    parent = work_dir / "attempts"
    numbers = [int(match[1]) for path in parent.glob("a*") if (match := _NAME.fullmatch(path.name))]
    found = (read_attempt(parent / f"a{number}") for number in sorted(numbers))
    return [attempt for attempt in found if attempt is not None]


def read_attempt(folder: Path) -> Attempt | None:
    """The attempt in that directory; None if there is none yet."""
    record = read_record(folder / "intent.json")
    return Attempt(folder=folder, intent=Intent(**{**record, "exclude": tuple(record["exclude"])})) if record else None


def attempt_key(run_id: str, stage: str, fingerprint: str, number: int) -> str:
    """What an attempt is known by: the name of its job."""
    return f"{run_id}-{stage}-{fingerprint[:8]}-a{number}"


def open_attempt(
    work_dir: Path,
    *,
    number: int,
    stage: str,
    run_id: str,
    profile: str,
    fingerprint: str,
    first_step: int = 0,
    exclude: tuple[str, ...] = (),
) -> Attempt:
    """Record the intent of the stage's attempt `number`; of several callers one writes it and all get the same."""
    folder = work_dir / "attempts" / f"a{number}"
    intent = Intent(
        key=attempt_key(run_id, stage, fingerprint, number),
        stage=stage,
        run_id=run_id,
        profile=profile,
        number=number,
        created=time.time(),
        first_step=first_step,
        exclude=exclude,
    )
    is_new = write_once(folder / "intent.json", asdict(intent))
    attempt = read_attempt(folder)
    assert attempt is not None
    return replace(attempt, is_new=is_new)


def write_once(path: Path, record: Mapping[str, Any]) -> bool:
    """Write a JSON file whole and synced, unless it is there already; whether this call wrote it.

    Raises:
        RequirementError: the file system does not take it.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        ensure_directory(path.parent)
        try:
            write_new(partial, json.dumps(record, indent=1).encode())
            os.link(partial, path)  # link(2): makes the finished file visible, or fails because there is one
        except FileExistsError:
            return False
        finally:
            partial.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise RequirementError(
            f"{path}: cannot be written: {error.strerror or error}; nothing was submitted for it. Jobs are recorded on "
            "a file system with free space and hard links; free some, or set remote_job_dir"
        ) from error
    return True


def read_record(path: Path) -> dict[str, Any] | None:
    """The JSON file; None if there is none."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return record
