"""Two orchestrators at once on one stage: one job does the work, and both see its end.

Without flock, as on two hosts whose shared file system knows none, the first one's sbatch takes as long as the second
one looks for a job: then both submit at nearly the same time, and it is the claim that decides.
"""

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster.cluster import Cluster
from orchestrator import LIMIT_S, Round, outcome, start, write_sbatch_wrapper

from nemo_runspec.slurm.submit import SETTLE_S

SIDE_BY_SIDE = 6
IMPORTS_S = 4.0  # until two new processes on a busy machine have imported all that they need


def race(cluster: Cluster, folder: Path, wrapper: Path | None, number: int) -> Round:
    """One race; the second orchestrator goes 0 to 0.4 s after the first."""
    at = time.time() + IMPORTS_S
    work_dir = folder / f"race{number}-{uuid.uuid4().hex[:8]}"
    begins = {"one": at, "two": at + (number % 10) ** 2 * 0.005}
    options = ["--no-lock"] if wrapper else []
    delay_s = {"one": f"{SETTLE_S + number % 7 * 0.2}", "two": "0"}
    racers = [
        start(
            cluster,
            work_dir,
            name,
            *options,
            "--at",
            str(begin),
            path=wrapper,
            DELAY_S=delay_s[name],
            ENDED="/dev/null",
        )
        for name, begin in begins.items()
    ]
    endings = [racer.communicate(timeout=LIMIT_S)[0].strip() for racer in racers]
    return outcome(cluster, work_dir, endings)


@pytest.mark.parametrize("has_flock", [True, False], ids=["with flock", "without flock"])
@pytest.mark.parametrize("num_races", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_one_job_does_the_work_of_two_orchestrators_at_once(
    slurm: Cluster, tmp_path: Path, tell: Callable[[str], None], num_races: int, has_flock: bool
) -> None:
    wrapper = None if has_flock else write_sbatch_wrapper(tmp_path / "bin")
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        races = list(pool.map(lambda number: race(slurm, tmp_path, wrapper, number), range(num_races)))
    lost = sum(each.is_lost for each in races)
    doubled = sum(each.is_doubled for each in races)
    spare = sum(len(each.jobs) - len(set(each.work)) for each in races)
    tell(
        f"races {'with' if has_flock else 'without'} flock: {num_races} of two orchestrators: {lost} lost, "
        f"{doubled} doubled, {spare} jobs submitted twice (ended without work)"
    )
    assert (lost, doubled) == (0, 0), [each for each in races if each.is_lost or each.is_doubled]
