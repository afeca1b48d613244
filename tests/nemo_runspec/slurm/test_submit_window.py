"""kill -9 of the orchestrator at each point of the submit window; a second one brings the stage to its end.

In sbatch, before its request: the wrapper kills the orchestrator, waits, and only then submits. That may be after the
second orchestrator has looked twice and found nothing: then two jobs are submitted, and one of them does nothing.
"""

import signal
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster.cluster import Cluster
from orchestrator import LIMIT_S, POINTS, Round, outcome, start, write_sbatch_wrapper

NUM_POINTS = 6  # in sbatch counts once, with two variants
LONGEST_DELAY_S = 14.0
IN_SBATCH = {"in-sbatch-before-its-request": "before", "in-sbatch-after-its-request": "after"}
SIDE_BY_SIDE = 14


def play(cluster: Cluster, folder: Path, wrapper: Path, point: str, *, delay_s: float) -> Round:
    """One round: an orchestrator that is killed at the point, and the next one."""
    work_dir = folder / f"{point}-{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    kill_parent = IN_SBATCH.get(point, "")
    first = start(
        cluster,
        work_dir,
        "first",
        *([] if kill_parent else ["--die", point]),
        path=wrapper if kill_parent else None,
        KILL_PARENT=kill_parent,
        DELAY_S=str(delay_s if kill_parent == "before" else 0),
        ENDED=str(folder / f"{work_dir.name}-ended"),
    )
    first.communicate(timeout=LIMIT_S)
    assert first.returncode == -signal.SIGKILL, f"{point}: the orchestrator was not killed"
    second = start(cluster, work_dir, "second")
    ending, _ = second.communicate(timeout=LIMIT_S)
    deadline = time.monotonic() + LIMIT_S
    while kill_parent and not (folder / f"{work_dir.name}-ended").exists():
        assert time.monotonic() < deadline, f"{point}: sbatch does not end"
        time.sleep(0.2)
    return outcome(cluster, work_dir, [ending.strip()])


def play_all(cluster: Cluster, folder: Path, num_rounds: int) -> list[Round]:
    """`num_rounds` rounds of each point, side by side."""
    wrapper = write_sbatch_wrapper(folder / "bin")
    delays = [LONGEST_DELAY_S * number / (num_rounds - 1) for number in range(num_rounds)]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        futures = [
            pool.submit(play, cluster, folder / point, wrapper, point, delay_s=delay_s)
            for delay_s in delays
            for point in POINTS
        ]
        return [future.result() for future in futures]


@pytest.mark.parametrize("num_rounds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_work_is_done_once_wherever_the_orchestrator_is_killed(
    slurm: Cluster, tmp_path: Path, tell: Callable[[str], None], num_rounds: int
) -> None:
    rounds = play_all(slurm, tmp_path, num_rounds)
    lost = sum(each.is_lost for each in rounds)
    doubled = sum(each.is_doubled for each in rounds)
    spare = sum(len(each.jobs) - len(set(each.work)) for each in rounds)
    tell(
        f"submit window: {NUM_POINTS} points × {num_rounds} rounds ({len(rounds)} kills, in sbatch in two variants): "
        f"{lost} lost, {doubled} doubled, {spare} jobs submitted twice (ended without work)"
    )
    assert (lost, doubled) == (0, 0), [each for each in rounds if each.is_lost or each.is_doubled]
