"""What Slurm's words mean: live or ended, how it ended, and whether that speaks for another attempt. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

# squeue(1), "JOB STATE CODES": a job in none of these has ended. Unknown words count as live: no verdict from a word
# that a later Slurm may have added.
ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}
    | {"REVOKED", "TIMEOUT"}
)
# Reasons that never go away by themselves: squeue(1), "JOB REASON CODES".
HOPELESS_REASONS = frozenset({"DependencyNeverSatisfied", "launch failed requeued held"})
# Reasons that only an administrator or another request can clear.
DOUBTFUL_REASONS = frozenset(
    {"PartitionNodeLimit", "PartitionTimeLimit", "PartitionDown", "PartitionInactive", "BadConstraints"}
    | {"InvalidAccount", "InvalidQOS", "AccountNotAllowed", "QOSNotAllowed", "ReservationDeleted"}
    | {"JobHeldUser", "JobHeldAdmin", "AssocMaxNodePerJobLimit", "QOSMaxNodePerUserLimit"}
)
LAUNCH_FAILED = "0:53"  # the batch script never ran, as when the directory of --output is missing
NODES_LOST = 69  # sysexits.h EX_UNAVAILABLE: `nemo_runspec.launch` when nodes did not meet, or one was lost
OOM_KILLED = "0:125"  # sacct(1): set when a step was killed by the memory cgroup


class Ending(StrEnum):
    """How a job ended."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    TIMEOUT = "TIMEOUT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    NODE_FAIL = "NODE_FAIL"
    BOOT_FAIL = "BOOT_FAIL"
    PREEMPTED = "PREEMPTED"
    LAUNCH_FAILED = "LAUNCH_FAILED"
    CANCELLED = "CANCELLED"
    DEADLINE = "DEADLINE"
    DEPENDENCY = "DEPENDENCY"
    REFUSED = "REFUSED"
    LOST = "LOST"


Policy = Literal["done", "infrastructure", "resume", "failure", "final"]

POLICIES: dict[Ending, Policy] = {
    Ending.COMPLETED: "done",
    Ending.FAILED: "failure",
    Ending.STOPPED: "resume",
    Ending.TIMEOUT: "resume",
    Ending.OUT_OF_MEMORY: "final",
    Ending.NODE_FAIL: "infrastructure",
    Ending.BOOT_FAIL: "infrastructure",
    Ending.PREEMPTED: "infrastructure",
    Ending.LAUNCH_FAILED: "infrastructure",
    Ending.CANCELLED: "final",
    Ending.DEADLINE: "final",
    Ending.DEPENDENCY: "final",
    Ending.REFUSED: "final",
    Ending.LOST: "infrastructure",
}
"""What follows an ending: nothing, another attempt on its own budget, one as long as there is progress, or an error."""


@dataclass(frozen=True, kw_only=True)
class DoneRecord:
    """What the job itself wrote at its end (done.json); times in seconds since the epoch."""

    job_id: int
    exit_code: int
    started: float
    ended: float
    stop_requested: bool
    nodes: str


@dataclass(frozen=True, kw_only=True)
class Accounting:
    """A job's row in sacct; `state` is its first word, exit codes are `code:signal`, times seconds since the epoch."""

    job_id: int
    name: str
    state: str
    exit_code: str = "0:0"
    derived_exit_code: str = "0:0"
    submitted: float | None = None
    started: float | None = None
    ended: float | None = None
    nodes: str = ""
    num_gpus: int = 0
    reason: str = ""


def first_word(state: str) -> str:
    """`CANCELLED by 0` → `CANCELLED`."""
    return state.split(maxsplit=1)[0].rstrip("+") if state.strip() else ""


def has_ended(state: str) -> bool:
    """Whether a job in this state will not run any more (unless Slurm requeues it)."""
    return first_word(state) in ENDED


def judge(
    *,
    state: str | None,
    reason: str = "",
    accounting: Accounting | None = None,
    done: DoneRecord | None = None,
    claimed: bool = True,
    launch_failed: bool = False,
) -> Ending:
    """How a job that is no longer live ended, by all that is known of it.

    `state` and `reason` are squeue's last word, None when it has forgotten the job. Slurm's own verdict counts more
    than what the job wrote of itself, but for what Slurm does not tell apart. `claimed`: the job did begin; one that
    never did can have done nothing, whatever Slurm says. `launch_failed`: srun could not start its tasks.
    """
    word = first_word(accounting.state) if accounting and has_ended(accounting.state) else first_word(state or "")
    exit_code = accounting.exit_code if accounting else "0:0"
    if word == "CANCELLED" and "DependencyNeverSatisfied" in (reason, accounting.reason if accounting else ""):
        return Ending.DEPENDENCY
    if reason == "launch failed requeued held" or (word == "FAILED" and exit_code == LAUNCH_FAILED and done is None):
        return Ending.LAUNCH_FAILED
    if word == "COMPLETED" and done is None and not claimed:
        return Ending.LAUNCH_FAILED
    stopped = done is not None and done.stop_requested and done.exit_code != 0
    if word in ("FAILED", "COMPLETED") or (done and word not in ENDED):
        if accounting and OOM_KILLED in (exit_code, accounting.derived_exit_code):
            return Ending.OUT_OF_MEMORY
        if stopped:
            return Ending.STOPPED
        if word == "COMPLETED" and not (done and done.exit_code):
            return Ending.COMPLETED
        if done and not done.exit_code and word != "FAILED":
            return Ending.COMPLETED
        launch_failed = launch_failed or (done is not None and done.exit_code == NODES_LOST)
        return Ending.LAUNCH_FAILED if launch_failed else Ending.FAILED
    if word in ENDED and word != "REVOKED":
        return Ending(word)
    return Ending.LOST
