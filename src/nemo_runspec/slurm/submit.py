"""Submit an attempt once: what is there is adopted, what may be there is looked for, only then sbatch is called.

Whatever happens in between, this process may be killed at any line; the next caller goes on from the ledger.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nemo_runspec.errors import SlurmUnreachable, StageCancelled
from nemo_runspec.jobs.local import locked
from nemo_runspec.slurm.client import Found, SlurmClient
from nemo_runspec.slurm.ledger import Attempt

logger = logging.getLogger(__name__)

SETTLE_S = 5.0
"""A job is in squeue at once and in sacct within 2 s (measured); twice that after an sbatch whose end nobody saw."""
_CLOCK_SKEW_S = 24 * 3600.0
_MAX_PAUSE_S = 60.0


def submit_once(
    attempt: Attempt,
    client: SlurmClient,
    options: Sequence[str],
    *,
    prepare: Callable[[], None] = lambda: None,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Return the id of the job that does the attempt; submit it if there is none.

    A new attempt, whose intent this process has just written, nobody can have submitted before. While Slurm does not
    answer the question waits: no answer is not "no job". `prepare` writes what the job needs, if there is no
    job yet; `pause` waits that many seconds, and may raise to give up.

    Raises:
        SlurmRefused: Slurm refuses the job.
        StageCancelled: the attempt was cancelled before it was submitted.
    """
    with locked(attempt.folder):
        known = attempt.job_id()
        if known is not None:
            return known
        job_id = None if attempt.is_new else _look_up(attempt, client, pause)
        delay = SETTLE_S
        if job_id is None:
            prepare()
        while job_id is None:
            if attempt.is_cancelled():
                raise StageCancelled(f"{attempt.intent.stage}: cancelled before it was submitted")
            try:
                job_id = client.submit(attempt.folder / "job.sh", options)
            except SlurmUnreachable as error:
                logger.warning("%s: %s; looking whether the job is there", attempt.intent.stage, error)
                pause(delay)
                delay = min(2 * delay, _MAX_PAUSE_S)
                job_id = _look_up(attempt, client, pause)
        attempt.record_job(job_id)
        return job_id


def _look_up(attempt: Attempt, client: SlurmClient, pause: Callable[[float], None]) -> int | None:
    """The attempt's job, None when Slurm has been asked twice, `SETTLE_S` apart, and knows of none."""
    delay = SETTLE_S
    for is_last in (False, True):
        while True:
            try:
                found = client.find(attempt.intent.key, since=attempt.intent.created - _CLOCK_SKEW_S)
                break
            except SlurmUnreachable as error:
                logger.warning("%s: %s; asking again in %.0f s", attempt.intent.stage, error, delay)
                pause(delay)
                delay = min(2 * delay, _MAX_PAUSE_S)
        if found:
            job_id = choose(found, claimed=read_claim(attempt.folder))
            logger.info("%s: adopted job %d (%s)", attempt.intent.stage, job_id, attempt.intent.key)
            return job_id
        if claimed := read_claim(attempt.folder):
            return claimed  # it has run, and Slurm has forgotten it since
        if not is_last:
            pause(SETTLE_S)
    return None


def choose(found: Sequence[Found], *, claimed: int | None) -> int:
    """Of the jobs submitted for one attempt, the one that does it: the claimant, else a live one, else the first."""
    ids = [job.job_id for job in found]
    if claimed in ids:
        assert claimed is not None
        return claimed
    return next((job.job_id for job in found if not job.ended), ids[0])


def read_claim(folder: Path) -> int | None:
    """The job that claimed the attempt, None before one did."""
    try:
        return int((folder / "claim").readlink().name)
    except (OSError, ValueError):
        return None
