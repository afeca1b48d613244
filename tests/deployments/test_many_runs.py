"""A slice of the campaign of benchmarks/many_runs.py, which is for fifty."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cluster.cluster import require_programs
from team_server import require_postgres

NUM_RUNS = 3


def test_runs_at_once_lose_no_state_job_or_artifact(repository: Path, tell: Callable[[str], None]) -> None:
    require_programs()
    require_postgres()
    done = subprocess.run(
        [sys.executable, str(repository / "benchmarks" / "many_runs.py"), "--runs", str(NUM_RUNS)],
        env={**os.environ, "PYTHONPATH": str(repository / "tests")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    tell(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{4 * NUM_RUNS} COMPLETED; 0" in done.stdout
