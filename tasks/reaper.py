"""End jobs that nobody wants any more: `python -m nemotron.tasks.reaper`, from cron, or after an outage.

A job whose orchestrator died is wanted: the next start follows it. A job is not wanted when all the flow runs that
followed it were cancelled on the Prefect server, or when a cancel was cut short. What the server does not know, or does
not answer, is no cancel. Tasks that the server takes to be running, and that are not, are settled, too.
"""

from __future__ import annotations

import argparse
import logging
import sys
import uuid
from pathlib import Path

from nemo_runspec.env import FILE_NAME
from nemo_runspec.errors import RunspecError
from nemo_runspec.slurm.cancel import cancel_attempt
from nemo_runspec.slurm.client import SlurmClient
from nemo_runspec.slurm.hosts import Host, LocalHost
from nemo_runspec.slurm.ledger import Attempt
from nemotron.blocks.profile_lookup import find_profile, prefect_api_url
from nemotron.tasks.job_index import followers, open_attempts, other_drivers
from nemotron.tasks.run_slurm import connect
from nemotron.tasks.task_endings import ANSWER_TIMEOUT_S, GRACE_S, settle_tasks

logger = logging.getLogger(__name__)


def cancel_run(home: Path, run_id: str, *, why: str) -> int:
    """End all jobs that a pipeline run follows and that no other run waits for; how many that were."""
    return sum(end(attempt, home, why=why) for attempt in unwanted_attempts(home, run_id))


def unwanted_attempts(home: Path, run_id: str) -> list[Attempt]:
    """The attempts whose jobs are to end with that run; one that a live run follows too goes on."""
    followed = [attempt for attempt in open_attempts(home) if run_id in followers(attempt)]
    return [attempt for attempt in followed if not other_drivers(attempt, home, run_id)]


def reap(home: Path, *, grace_s: float = GRACE_S) -> int:
    """End the jobs that nobody wants, how many that were; settle tasks of runs that ended `grace_s` seconds ago."""
    count = sum(end(attempt, home, why=why) for attempt in open_attempts(home) if (why := reason_to_end(attempt)))
    if prefect_api_url() is not None:
        try:
            settle_tasks(home.parent, grace_s=grace_s)
        except Exception as error:  # whatever a server or what is in its place may answer
            logger.warning("Prefect does not answer: %s; tasks are left as they are", error)
    return count


def reason_to_end(attempt: Attempt) -> str | None:
    """Why nobody wants the job, None if somebody may."""
    if attempt.is_cancelled():
        return "an earlier cancel was cut short"
    if prefect_api_url() is not None and all(was_cancelled(run_id) for run_id in sorted(followers(attempt))):
        return "its flow run was cancelled"
    return None


def was_cancelled(run_id: str) -> bool:
    """Whether the server says that the pipeline run of that id was cancelled, and not started again since."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterName
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    from nemotron.tasks.hasty_client import hasty_client

    try:  # the flow run itself, or the newest of those that a command made for the run
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[uuid.UUID(run_id)]))
    except ValueError:
        wanted = FlowRunFilter(name=FlowRunFilterName(like_=f"-{run_id}"))
    try:
        with hasty_client(timeout_s=ANSWER_TIMEOUT_S) as client:
            found = client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)
    except Exception as error:  # whatever a server or what is in its place may answer
        logger.warning("Prefect does not answer: %s; jobs are left alone", error)
        return False
    cancels = (StateType.CANCELLING, StateType.CANCELLED)
    return any(run.state is not None and run.state.type in cancels for run in found)


def end(attempt: Attempt, home: Path, *, why: str) -> bool:
    """Make sure that the attempt has no job; whether it had one. False, with a warning, if that is not known now."""
    try:
        attempt.record_cancel(why)  # first: should Slurm not answer now, it can be finished later
        client = SlurmClient(host=host_of(attempt, home))
        had_one = client.is_queued(attempt.intent.key)
        cancel_attempt(attempt, client, why=why)
    except RunspecError as error:
        logger.warning("%s", error)
        return False
    return had_one


def host_of(attempt: Attempt, home: Path) -> Host:
    """Where the attempt was submitted: as its profile says, here if an override and no profile said slurm."""
    if not attempt.intent.profile:
        return LocalHost()
    env_file = home.parent / FILE_NAME
    return connect(find_profile(attempt.intent.profile, env_file=env_file if env_file.is_file() else None))


def main(argv: list[str] | None = None) -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(prog="reaper", description="End Slurm jobs that nobody wants any more.")
    parser.add_argument("--project", type=Path, default=Path.cwd(), help="the directory that holds .nemotron")
    parser.add_argument(
        "--grace-s", type=float, default=GRACE_S, help="seconds after a run's end in which its tasks may be heard of"
    )
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of each request
    count = reap(args.project.absolute() / ".nemotron", grace_s=args.grace_s)
    logger.info("%d %s ended", count, "job" if count == 1 else "jobs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
