"""What W&B has of a metrics file: a note beside it, `<metrics>.wandb.json`, and the sending of what it lacks.

The note says where the run is as soon as that is known, and the last step that the server was seen to have. W&B takes
steps only upwards: of a file in which a resumed training has written steps again, the later lines count if they are
sent together, and a step that W&B has already stays as it was first sent.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from nemo_runspec.errors import MirrorError
from nemo_runspec.metrics_log import read_metrics
from nemo_runspec.mirror.failures import WANDB_MISSING
from nemo_runspec.mirror.follower import is_installed, launch, log_path
from nemo_runspec.mirror.process_tree import kill_all
from nemo_runspec.mirror.scratch import scratch
from nemo_runspec.mirror.server import LATER, WandbServer, cancelled
from nemo_runspec.mirror.target import WandbTarget

NOTHING_SENT = -1
_POLL_S = 1.0


class WandbRun(BaseModel):
    """The W&B run of a metrics file: `path` is entity/project/id, `last_step` the last one known to be there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: str
    path: str
    url: str
    last_step: int = NOTHING_SENT

    def is_of(self, target: WandbTarget) -> bool:
        """Whether this is the run that the target means; the entity may be the key's default one."""
        entity, _, rest = self.path.partition("/")
        wanted = f"{target.project}/{target.run_id}"
        return self.server == target.base_url and rest == wanted and target.entity in (None, entity)


def read_wandb_run(metrics: Path) -> WandbRun | None:
    """The run to which the metrics were or are being sent, None if no run is known."""
    try:
        return WandbRun.model_validate_json(note_path(metrics).read_bytes())
    except (OSError, ValidationError):
        return None


def save_wandb_run(metrics: Path, run: WandbRun) -> None:
    """Write the note, whole or not at all."""
    path = note_path(metrics)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(run.model_dump_json(), encoding="utf-8")
    partial.replace(path)


def note_path(metrics: Path) -> Path:
    """Where the note is."""
    return metrics.with_name(f"{metrics.name}.wandb.json")


def last_known_step(metrics: Path, target: WandbTarget) -> int:
    """The last step that the target's run is known to have, -1 if none is."""
    run = read_wandb_run(metrics)
    return run.last_step if run is not None and run.is_of(target) else NOTHING_SENT


def unsent_steps(metrics: Path, target: WandbTarget) -> list[int]:
    """The steps in the file that the target's run is not known to have."""
    known = last_known_step(metrics, target)
    return [int(row["step"]) for row in read_metrics(metrics) if row["step"] > known]


def replay_metrics(
    target: WandbTarget,
    metrics: Path,
    *,
    server: WandbServer | None = None,
    timeout_s: float = 300.0,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> int:
    """Send what the run lacks of a training that has ended; returns how many rows it now has and wasn't known to.

    Waits for a follower that is still sending. The key is that of `server`, else the environment's. Imports no W&B: a
    process of its own does the work and is killed after `timeout_s` seconds; the next call goes on after what it sent,
    and one after all is sent asks nobody.

    Raises:
        MirrorError: not all could be sent, and why; or somebody cancelled.
        OSError: the file, or its directory, cannot be used.
    """
    missing = unsent_steps(metrics, target)
    if not missing:
        return 0
    if not is_installed("wandb"):
        raise MirrorError(WANDB_MISSING, server_wide=True)
    with scratch() as directory:
        process = launch(metrics, target, "--ended", env={"TMPDIR": str(directory), **_access(server)})
        try:
            code = _wait(process, timeout_s, is_cancelled)
        except BaseException as error:
            kill_all(process.pid, mark=str(directory))
            process.wait()
            if isinstance(error, InterruptedError):
                raise cancelled(target.server_url) from None
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise MirrorError(
                f"{metrics} was not sent to W&B server {target.base_url} within {timeout_s:g} s; wait, {LATER}"
            ) from None
    if code != 0:
        raise MirrorError(f"{metrics}: {_last_line(log_path(metrics))}")
    return len(missing) - len(unsent_steps(metrics, target))


def _wait(process: subprocess.Popen[bytes], timeout_s: float, is_cancelled: Callable[[], bool]) -> int:
    """The exit code.

    Raises:
        subprocess.TimeoutExpired: it took longer.
        InterruptedError: somebody cancelled.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        left_s = deadline - time.monotonic()
        try:
            return process.wait(max(min(left_s, _POLL_S), 0.0))
        except subprocess.TimeoutExpired:
            if left_s <= 0:
                raise
            if is_cancelled():
                raise InterruptedError from None


def _access(server: WandbServer | None) -> dict[str, str]:
    """The variables that give the program the server's key."""
    if server is None or server.api_key is None:
        return {}
    return {"WANDB_BASE_URL": server.base_url, "WANDB_API_KEY": server.api_key.get_secret_value()}


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it ended without a word")
