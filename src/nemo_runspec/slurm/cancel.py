"""End an attempt's job, for sure: scancel proves nothing, an empty queue does."""

from __future__ import annotations

import logging
import time

from nemo_runspec.errors import SlurmError, SlurmUnreachable
from nemo_runspec.slurm.client import SlurmClient
from nemo_runspec.slurm.ledger import Attempt, Verdict, verdict_without_run
from nemo_runspec.slurm.states import Ending
from nemo_runspec.slurm.submit import SETTLE_S

logger = logging.getLogger(__name__)

TIMEOUT_S = 120.0
_PAUSE_S = 1.0


def cancel_attempt(
    attempt: Attempt,
    client: SlurmClient,
    *,
    why: str,
    ending: Ending = Ending.CANCELLED,
    timeout_s: float = TIMEOUT_S,
) -> Verdict:
    """Return the recorded verdict when no job of the attempt is left.

    A job that begins nevertheless sees that it was cancelled, and does nothing.

    Raises:
        SlurmUnreachable: it could not be made sure within `timeout_s` seconds; the reaper can do so later.
    """
    attempt.record_cancel(why)
    deadline = time.monotonic() + timeout_s
    quiet_until = time.monotonic() + (0.0 if attempt.job_id() else SETTLE_S)  # an sbatch may be on its way
    problem = "it is still in the queue"
    while time.monotonic() < deadline:
        try:
            job_id = attempt.job_id()
            client.cancel(attempt.intent.key, [job_id] if job_id else [])
            if not client.is_queued(attempt.intent.key) and time.monotonic() >= quiet_until:
                logger.info("%s: job %s is gone (%s)", attempt.intent.stage, job_id or attempt.intent.key, why)
                return attempt.record_verdict(verdict_without_run(ending, job_id, why))
        except SlurmError as error:
            problem = str(error)
        time.sleep(_PAUSE_S)
    raise SlurmUnreachable(
        f"{attempt.intent.stage}: job {attempt.job_id() or attempt.intent.key} could not be ended within "
        f"{timeout_s:.0f} s: {problem}; it will be when Slurm answers: python -m nemotron.tasks.reaper"
    )
