"""All attempts of a project, wherever their directories are: `.nemotron/ledger/<key>` is a link to each."""

from __future__ import annotations

import contextlib
import fcntl
from pathlib import Path

from nemo_runspec.slurm.ledger import Attempt, attempts, read_attempt
from nemotron.tasks.stage_options import StageOptions

CONFIG_LINK = "job.yaml"


def remember(attempt: Attempt, home: Path) -> None:
    """Add the attempt."""
    folder = home / "ledger"
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (folder / attempt.intent.key).symlink_to(attempt.folder)


def remember_stage(options: StageOptions, stage: str, work_dir: Path) -> None:
    """Add a link to the stage's work directory under `.nemotron/runs/<run id>.stages/`, for who looks the run up."""
    folder = stages_folder(options.home, options.run_id)
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / stage
    with contextlib.suppress(FileNotFoundError):
        link.unlink()
    with contextlib.suppress(FileExistsError):  # another process of the run did the same
        link.symlink_to(work_dir.absolute())


def remember_config(work_dir: Path, job_path: Path) -> None:
    """Add a link to the job.yaml by which the stage runs now, for who compares it with another's."""
    link = work_dir / CONFIG_LINK
    link.unlink(missing_ok=True)
    link.symlink_to(job_path.absolute())


def find_config(work_dir: Path) -> Path | None:
    """The job.yaml by which the stage last ran there, None if none is there any more."""
    of_attempts = [attempt.folder / CONFIG_LINK for attempt in reversed(attempts(work_dir))]
    return next((path for path in (work_dir / CONFIG_LINK, *of_attempts) if path.is_file()), None)


def stages_folder(home: Path, run_id: str) -> Path:
    """Where the links to the work directories of a run's stages are."""
    return home / "runs" / f"{run_id}.stages"


def add_follower(attempt: Attempt, run_id: str) -> None:
    """Remember that this run waits for the attempt, too: another run may have opened it."""
    folder = attempt.folder / "followers"
    folder.mkdir(exist_ok=True)
    (folder / run_id).touch()


def is_driven(home: Path, run_id: str) -> bool:
    """Whether a process drives the run now: it holds `.nemotron/runs/<run id>.lock`."""
    path = home / "runs" / f"{run_id}.lock"
    if not path.exists():
        return False
    with path.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def other_drivers(attempt: Attempt, home: Path, run_id: str) -> list[str]:
    """The ids of other runs that wait for the attempt and that a process drives now: they want its job."""
    return sorted(other for other in followers(attempt) - {run_id} if is_driven(home, other))


def followers(attempt: Attempt) -> set[str]:
    """The ids of all runs that ever waited for the attempt."""
    return {attempt.intent.run_id, *(path.name for path in (attempt.folder / "followers").glob("*"))}


def open_attempts(home: Path) -> list[Attempt]:
    """Those of which it is not known that they ended, oldest first."""
    links = sorted((home / "ledger").glob("*"), key=lambda link: link.lstat().st_mtime)
    found = (read_attempt(link.resolve()) for link in links)
    return [attempt for attempt in found if attempt is not None and attempt.verdict() is None]
