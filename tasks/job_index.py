"""All attempts of a project, wherever their directories are: `.nemotron/ledger/<key>` is a link to each."""

from __future__ import annotations

import contextlib
from pathlib import Path

from nemo_runspec.slurm.ledger import Attempt, read_attempt


def remember(attempt: Attempt, home: Path) -> None:
    """Add the attempt."""
    folder = home / "ledger"
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (folder / attempt.intent.key).symlink_to(attempt.folder)


def add_follower(attempt: Attempt, run_id: str) -> None:
    """Remember that this run waits for the attempt, too: another run may have opened it."""
    folder = attempt.folder / "followers"
    folder.mkdir(exist_ok=True)
    (folder / run_id).touch()


def followers(attempt: Attempt) -> set[str]:
    """The ids of all runs that ever waited for the attempt."""
    return {attempt.intent.run_id, *(path.name for path in (attempt.folder / "followers").glob("*"))}


def open_attempts(home: Path) -> list[Attempt]:
    """Those of which it is not known that they ended, oldest first."""
    links = sorted((home / "ledger").glob("*"), key=lambda link: link.lstat().st_mtime)
    found = (read_attempt(link.resolve()) for link in links)
    return [attempt for attempt in found if attempt is not None and attempt.verdict() is None]
