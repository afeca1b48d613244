"""Flows for a worker to run."""

import logging
import sys
import time
from pathlib import Path

from prefect import flow


@flow
def note(path: str) -> None:
    """Write a file, and log a line as our code does."""
    logging.getLogger("nemo_runspec.slurm").info("job 4711: RUNNING")
    Path(path).write_text("done")


@flow
def wait_for(path: str, begun: str) -> None:
    """Print until there is a file of that name."""
    Path(begun).touch()
    while not Path(path).exists():
        sys.stdout.write("waiting\n")
        sys.stdout.flush()
        time.sleep(0.1)
