"""Prints the logs of a run's stages, also while they grow."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from nemo_runspec.errors import ConfigError, did_you_mean
from nemo_runspec.slurm.logs import LogFollower
from nemotron.flows.run_list import StageOfRun, stages_of
from nemotron.tasks.job_index import is_driven

POLL_S = 0.5


def print_logs(home: Path, run_id: str, *, follow: bool, stage: str | None) -> None:
    """Print `stage | line` of each line; with `follow` until no process drives the run any more.

    Raises:
        ConfigError: the run has no such stage.
    """
    followers: dict[Path, LogFollower] = {}
    while True:
        goes_on = follow and is_driven(home, run_id)
        for each in _selected(home, run_id, stage, may_come=goes_on):
            for path in each.logs():
                follower = followers.setdefault(path, LogFollower(path=path))
                for line in follower.read_lines(to_end=not goes_on):
                    sys.stdout.write(f"{each.name} | {line}\n")
        sys.stdout.flush()
        if not goes_on:
            return
        time.sleep(POLL_S)


def _selected(home: Path, run_id: str, stage: str | None, *, may_come: bool) -> list[StageOfRun]:
    stages = stages_of(home, run_id)
    chosen = [each for each in stages if stage in (None, each.name)]
    if stage is not None and not chosen and not may_come:
        names = [each.name for each in stages]
        raise ConfigError(
            f"--stage {stage}: run {run_id} has no such stage; have: {', '.join(names) or 'none yet'}."
            f"{did_you_mean(stage, names)}"
        )
    return chosen
