"""Starts the process that sends a metrics file to W&B, for a training or after it; imports nothing of W&B.

The program is `nemo_runspec.mirror.follow`, which says what it promises. Its standard error is `<metrics>.wandb.log`,
and whoever holds the lock on that file is the only one who sends: the follower takes it, and as W&B's own process
inherits the file, the lock is free only once that has ended, too, also when the follower was killed.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import nemo_runspec
from nemo_runspec.errors import RunspecError
from nemo_runspec.mirror.lock import is_locked
from nemo_runspec.mirror.target import ENV_WANDB, WandbTarget

PROGRAM = "nemo_runspec.mirror.follow"

logger = logging.getLogger(__name__)

_started: list[subprocess.Popen[bytes]] = []
"""Kept, as nobody waits for them: the destructor of a process that still runs warns."""


def start_follower(metrics: Path) -> None:
    """Have the metrics sent to the W&B run of `$NEMOTRON_WANDB` as they come, if its mode is online; waits for nothing.

    Whatever becomes of them, the store of `$NEMOTRON_STORE` says from now on where they belong.

    Raises:
        ConfigError: `$NEMOTRON_WANDB` cannot be understood.
    """
    target = WandbTarget.from_environment()
    if target is None:
        return
    _note(metrics, target)
    if target.mode != "online":
        return
    if not is_installed("wandb"):
        logger.warning(
            "wandb is not installed, so the metrics stay in %s; pip install 'nemotron-flows[wandb]', then run "
            "nemotron artifacts sync",
            metrics,
        )
        return
    try:
        _started.append(launch(metrics, target))
    except OSError as error:
        logger.warning("metrics are not sent to W&B: %s; run nemotron artifacts sync afterwards", error)


def _note(metrics: Path, target: WandbTarget) -> None:
    from nemo_runspec.artifacts import ArtifactStore  # which itself knows what a target is
    from nemo_runspec.mirror.metrics_notes import note_metrics

    store = os.environ.get("NEMOTRON_STORE")
    if not store:
        return
    try:
        note_metrics(ArtifactStore(store), metrics, target)
    except (RunspecError, OSError) as error:
        logger.warning("nemotron artifacts sync will know of these metrics only if the stage publishes: %s", error)


def launch(
    metrics: Path, target: WandbTarget, *options: str, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start the program, which ends soon after this process does; `env` is added to this one's environment."""
    command = [sys.executable, "-P", "-m", PROGRAM, "--metrics", str(metrics.absolute()), "--parent", str(os.getpid())]
    with log_path(metrics).open("ab") as log:
        return subprocess.Popen(
            [*command, *options],
            env={**os.environ, **_own_environment(target), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def log_path(metrics: Path) -> Path:
    """Where the program writes what happened, and whose lock keeps senders from each other."""
    return metrics.with_name(f"{metrics.name}.wandb.log")


def is_being_sent(metrics: Path) -> bool:
    """Whether the program is at work on it at this moment."""
    return is_locked(log_path(metrics))


def is_installed(package: str) -> bool:
    """Whether it can be imported; a folder of that name, as W&B leaves in the working directory, is no package."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def _own_environment(target: WandbTarget) -> dict[str, str]:
    """Where the metrics go, and where the program finds this very package."""
    above = str(Path(nemo_runspec.__path__[0]).parent)
    search = os.pathsep.join(filter(None, [above, os.environ.get("PYTHONPATH")]))
    return {ENV_WANDB: target.model_dump_json(), "PYTHONPATH": search}
