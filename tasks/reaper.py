"""End jobs that nobody wants any more: `python -m nemotron.tasks.reaper`, from cron, or after an outage.

A job whose orchestrator died is wanted: the next start follows it. A job is not wanted when its flow run was cancelled
or deleted on the Prefect server, or when a cancel was cut short.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import uuid
from pathlib import Path

from nemo_runspec.errors import RunspecError
from nemo_runspec.slurm.cancel import cancel_attempt
from nemo_runspec.slurm.client import SlurmClient
from nemo_runspec.slurm.ledger import Attempt
from nemotron.blocks.profile_lookup import find_profile
from nemotron.tasks.job_index import open_attempts
from nemotron.tasks.run_slurm import connect

logger = logging.getLogger(__name__)


def cancel_run(home: Path, run_id: str, *, why: str) -> int:
    """End all jobs of a pipeline run; how many attempts that were."""
    wanted = [attempt for attempt in open_attempts(home) if attempt.intent.run_id == run_id]
    return sum(end(attempt, why=why) for attempt in wanted)


def reap(home: Path) -> int:
    """End the jobs that nobody wants; how many attempts that were."""
    return sum(end(attempt, why=why) for attempt in open_attempts(home) if (why := reason_to_end(attempt)))


def reason_to_end(attempt: Attempt) -> str | None:
    """Why nobody wants the job, None if somebody may."""
    if attempt.is_cancelled():
        return "an earlier cancel was cut short"
    return flow_run_reason(attempt.intent.run_id) if os.environ.get("PREFECT_API_URL") else None


def flow_run_reason(run_id: str) -> str | None:
    """Why the flow run of that id needs no job, None if it may; a server that is away means that it may."""
    try:
        flow_run_id = uuid.UUID(run_id)
    except ValueError:
        return None  # not a run of a deployment
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(flow_run_id).state
    except ObjectNotFound:
        return "its flow run was deleted"
    except Exception as error:
        logger.warning("Prefect does not answer: %s; jobs are left alone", error)
        return None
    return "its flow run was cancelled" if state and state.type.value in ("CANCELLING", "CANCELLED") else None


def end(attempt: Attempt, *, why: str) -> bool:
    """End the attempt's job; False, with a warning, if that cannot be made sure now."""
    try:
        cancel_attempt(attempt, SlurmClient(host=connect(find_profile(attempt.intent.profile))), why=why)
    except RunspecError as error:
        logger.warning("%s", error)
        return False
    return True


def main(argv: list[str] | None = None) -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(prog="reaper", description="End Slurm jobs that nobody wants any more.")
    parser.add_argument("--project", type=Path, default=Path.cwd(), help="the directory that holds .nemotron")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logger.info("%d jobs ended", reap(args.project / ".nemotron"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
