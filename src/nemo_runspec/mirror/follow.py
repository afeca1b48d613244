"""`python -m nemo_runspec.mirror.follow --metrics FILE --parent PID`: send a metrics file to W&B while it grows.

A stage's training starts it (`follower.start_follower`) and never waits for it: all that the two share is the file.
The W&B run is that of `$NEMOTRON_WANDB`, the same at every attempt of the stage.

* It ends by itself: once the last of `total` steps is sent, else when the process that started it is gone and the
  file is read to its end; then it has `--limit` seconds, whatever the server does. Until then it tries again and
  again, where the server cannot be reached and where W&B's own process dies.
* It sends what the server lacks. The server is asked for the run's last step when the run is opened and again after
  it is finished: W&B's client drops rows without a word where the server refuses them (0.31.0, answers 403 and 404).
  Only what the server was seen to have is noted in `<metrics>.wandb.json`.
* A Slurm job ends with the training, and Slurm then kills this process, too: an allocation must not wait for W&B.
  The last step comes before the last checkpoint and the publishing, so there is mostly time enough. What is left,
  `nemotron artifacts sync` sends: it runs this program with `--ended` (`metrics.replay_metrics`). Until then W&B
  shows the run as running, and some minutes later as crashed.
* A training that goes on at an earlier step writes steps again. W&B takes none backwards: those that it has already
  stay as they were, and the curve goes on with the first new one.
* On W&B the run is finished with the last of `total` steps, failed where it ends before; the next attempt resumes it.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nemo_runspec.errors import MirrorError
from nemo_runspec.mirror.failures import explain
from nemo_runspec.mirror.helper_environment import helper_environment
from nemo_runspec.mirror.metrics import unsent_steps
from nemo_runspec.mirror.metrics_run import POLL_S, Training, send
from nemo_runspec.mirror.scratch import scratch
from nemo_runspec.mirror.server import WandbServer, no_key
from nemo_runspec.mirror.target import WandbTarget

LIMIT_S = 30.0
RETRY_S = 30.0
NICENESS = 10
STDERR = 2

logger = logging.getLogger(__name__)


def main() -> None:
    """Send until the end; exit code 1, and in the last line why, if W&B does not have all."""
    arguments = _parse_arguments()
    target = WandbTarget.from_environment()
    if target is None:
        sys.exit("error: NEMOTRON_WANDB is not set; it says to which run the metrics go")
    training = Training(parent=arguments.parent, ended=arguments.ended)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Slurm sends it to the whole job, whose end is what counts here
    os.nice(NICENESS)
    server = WandbServer.at(target.base_url)
    if server.api_key is None:
        sys.exit(str(no_key(server.base_url)))
    with scratch() as directory:
        threading.Thread(target=_end_in_time, args=(training, arguments.limit, directory), daemon=True).start()
        environment = helper_environment(os.environ, server=server, directory=directory)
        os.environ.clear()
        os.environ.update({**environment, "TMPDIR": str(directory)})
        tempfile.tempdir = str(directory)
        _take_lock()
        sys.exit(follow(target, arguments.metrics, training))


def follow(target: WandbTarget, metrics: Path, training: Training) -> str | None:
    """Send until W&B has all; why it has not after a try that began when the training was over, None if it has."""
    while True:
        over = training.is_over()
        if over and not unsent_steps(metrics, target):
            return None
        try:
            send(target, metrics, training)
            return None
        except Exception as error:  # whatever W&B's client raises must not end this before the training
            reason = str(error if isinstance(error, MirrorError) else explain(error))
        finally:
            _end_client()
        if over:
            return reason
        logger.warning("%s", reason)
        _wait(training, RETRY_S)


def _end_client() -> None:
    """End W&B's own process, so that a next try begins with a new one."""
    wandb = sys.modules.get("wandb")
    if wandb is not None:
        with suppress(Exception):
            wandb.teardown()


def _wait(training: Training, seconds: float) -> None:
    """Wait so long, or until the training is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not training.is_over():
        time.sleep(POLL_S)


def _end_in_time(training: Training, limit_s: float, scratch: Path) -> None:
    """End this process so long after its parent; W&B's own process ends itself some seconds after this one."""
    while training.has_parent():
        time.sleep(POLL_S)
    time.sleep(limit_s)
    logger.warning("gave up %g s after the end; nemotron artifacts sync sends the rest", limit_s)
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


def _take_lock() -> None:
    """Wait until nobody else sends this file; where the file system has no locks, nobody is taken to."""
    try:
        fcntl.flock(STDERR, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.info("waiting for another process that sends this file")
        fcntl.flock(STDERR, fcntl.LOCK_EX)
    except OSError as error:
        logger.warning("no lock: %s", error)


def _parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True, help="pid of the process that starts this one")
    parser.add_argument("--ended", action="store_true", help="nobody writes the file any more")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds left after the parent's end")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
