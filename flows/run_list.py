"""The runs of a project as their files under `.nemotron/runs/` tell: which there are, how each stands, its stages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from nemo_runspec.errors import ConfigError, did_you_mean
from nemo_runspec.slurm.ledger import Attempt, attempts, read_record
from nemotron.flows.runs import CANCELLED, RunRequest, exit_code, read_request
from nemotron.tasks.job_index import is_driven, stages_folder

State = Literal["running", "done", "failed", "cancelled", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run: what was asked for, and how it stands. `started`: the last time that a process took it up, UTC."""

    request: RunRequest
    state: State
    exit_code: int | None
    started: datetime
    driver: str

    @property
    def run_id(self) -> str:
        """Its id."""
        return self.request.run_id


@dataclass(frozen=True, kw_only=True)
class StageOfRun:
    """A stage of a run: where it works, and its Slurm jobs."""

    name: str
    work_dir: Path
    attempts: tuple[Attempt, ...]

    def logs(self) -> list[Path]:
        """Its log files, oldest first."""
        paths = [self.work_dir / "log.txt", *(attempt.log_path for attempt in self.attempts)]
        return [path for path in paths if path.is_file()]


def list_runs(home: Path) -> list[Run]:
    """All runs, newest first; a file that tells of none is left out."""
    found = []
    for path in (home / "runs").glob("*.json"):
        try:
            found.append(read_run(home, path.stem))
        except ConfigError:
            continue
    return sorted(found, key=lambda run: run.started, reverse=True)


def read_run(home: Path, run_id: str) -> Run:
    """The run of that id.

    Raises:
        ConfigError: there is no record of it, or it cannot be read.
    """
    path = home / "runs" / f"{run_id}.json"
    request = read_request(path)
    driven, code = is_driven(home, run_id), exit_code(home, run_id)
    driver = _read_driver(home / "runs" / f"{run_id}.driver")
    started = float(driver.get("started") or path.stat().st_mtime)
    return Run(
        request=request,
        state="running" if driven else _state(code),
        exit_code=None if driven else code,
        started=datetime.fromtimestamp(started, UTC),
        driver=f"{driver.get('host', '?')}:{driver.get('pid', '?')}",
    )


def find_run(home: Path, wanted: str | None) -> Run:
    """The run of that id, or of the one id that begins or ends so; the newest without one.

    Raises:
        ConfigError: there is none, or more than one.
    """
    ids = sorted((path.stem for path in (home / "runs").glob("*.json")), reverse=True)
    if not ids:
        raise ConfigError(f"no runs in {home / 'runs'}; start one, as nemotron nano3 sft -c tiny")
    if wanted is None:
        return next(iter(list_runs(home)), None) or read_run(home, ids[0])
    fits = [run_id for run_id in ids if run_id == wanted] or [
        run_id for run_id in ids if run_id.startswith(wanted) or run_id.endswith(wanted)
    ]
    if len(fits) != 1:
        where = f"{wanted!r} in {home / 'runs'}"
        if fits:
            raise ConfigError(f"run {where}: {len(fits)} runs are named so: {', '.join(fits[:5])}; give more of the id")
        raise ConfigError(
            f"no run {where}; newest: {', '.join(ids[:5])}; see nemotron runs list.{did_you_mean(wanted, ids)}"
        )
    return read_run(home, fits[0])


def stages_of(home: Path, run_id: str) -> list[StageOfRun]:
    """The stages that the run came to, oldest first."""
    links = sorted(stages_folder(home, run_id).glob("*"), key=lambda link: link.lstat().st_mtime_ns)
    return [
        StageOfRun(name=link.name, work_dir=link.resolve(), attempts=tuple(attempts(link.resolve()))) for link in links
    ]


def describe_attempt(attempt: Attempt) -> str:
    """`job 12 RUNNING since …` of an attempt, by the ledger."""
    job = f"job {attempt.job_id() or '-'}"
    verdict = attempt.verdict()
    if verdict is None:
        return f"{job} {'being cancelled' if attempt.is_cancelled() else 'not ended'}"
    code = f" {verdict.exit_code}" if verdict.exit_code not in ("", "0:0") else ""
    return f"{job} {verdict.ending}{code} on {verdict.nodes or 'no node'}, ran {verdict.run_s:.0f} s"


def _state(code: int | None) -> State:
    if code is None:
        return "interrupted"
    if code == 0:
        return "done"
    return "cancelled" if code == CANCELLED else "failed"


def _read_driver(path: Path) -> dict[str, Any]:
    try:
        return read_record(path) or {}
    except json.JSONDecodeError:
        return {}
