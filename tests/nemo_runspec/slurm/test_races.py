"""Two orchestrators at once on one stage: one job does the work, and both see its end."""

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster.cluster import Cluster
from orchestrator import LIMIT_S, Round, outcome, start

SIDE_BY_SIDE = 6
IMPORTS_S = 4.0  # until two new processes on a busy machine have imported all that they need


def race(cluster: Cluster, folder: Path, number: int, *options: str) -> Round:
    """One race; the second orchestrator goes 0 to 0.5 s after the first."""
    at = time.time() + IMPORTS_S
    gap_s = number % 11 * 0.05
    work_dir = folder / f"race{number}-{uuid.uuid4().hex[:8]}"
    racers = [
        start(cluster, work_dir, run_id, "--at", str(begin), *options)
        for run_id, begin in (("one", at), ("two", at + gap_s))
    ]
    endings = [racer.communicate(timeout=LIMIT_S)[0].strip() for racer in racers]
    return outcome(cluster, work_dir, endings)


@pytest.mark.parametrize("options", [(), ("--no-lock",)], ids=["with flock", "without flock"])
@pytest.mark.parametrize("num_races", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_one_job_does_the_work_of_two_orchestrators_at_once(
    slurm: Cluster, tmp_path: Path, tell: Callable[[str], None], num_races: int, options: tuple[str, ...]
) -> None:
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        races = list(pool.map(lambda number: race(slurm, tmp_path, number, *options), range(num_races)))
    lost = sum(each.is_lost for each in races)
    doubled = sum(each.is_doubled for each in races)
    spare = sum(len(each.jobs) - len(set(each.work)) for each in races)
    tell(
        f"races{' without flock' if options else ''}: {num_races} of two orchestrators: {lost} lost, "
        f"{doubled} doubled, {spare} jobs submitted twice (ended without work)"
    )
    assert (lost, doubled) == (0, 0), [each for each in races if each.is_lost or each.is_doubled]
