"""Whether a stage gets another attempt after one that ended, and when. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nemo_runspec.slurm.ledger import Verdict
from nemo_runspec.slurm.states import POLICIES, Ending

_FIRST_DELAY_S = 10.0
_MAX_DELAY_S = 600.0
# One job on several nodes does not tell which of them was at fault, and Slurm itself leaves out those that are down.
_BLAMES_ITS_NODE = frozenset({Ending.NODE_FAIL, Ending.BOOT_FAIL, Ending.LAUNCH_FAILED})


@dataclass(frozen=True, kw_only=True)
class Next:
    """What follows an attempt: `why` is a sentence for a person, `delay_s` seconds to wait first."""

    action: Literal["done", "again", "stop"]
    why: str = ""
    delay_s: float = 0.0
    exclude: tuple[str, ...] = ()


def decide(
    history: Sequence[Verdict],
    *,
    first_step: int,
    infrastructure_retries: int,
    failure_retries: int,
    gave_reason: bool,
) -> Next:
    """What follows the last of these verdicts on one stage's attempts.

    `first_step` is the checkpoint's step before the first of them; progress since gives back the budgets.
    `gave_reason`: the script itself said why it failed, so that another attempt would fail alike.
    """
    last = history[-1]
    steps = [first_step, *(verdict.saved_step for verdict in history)]
    policy = POLICIES[last.ending]
    since_progress = _since_progress(history, steps)
    if policy == "done":
        return Next(action="done")
    if policy == "resume":
        if steps[-1] > steps[-2]:
            return Next(action="again", why=f"{last.ending}; goes on from step {last.saved_step}")
        return Next(
            action="stop",
            why="the time limit came before a checkpoint was saved, so another job would get no further; "
            "raise time, or lower checkpoint.save_interval",
        )
    if policy == "infrastructure":
        count = sum(POLICIES[verdict.ending] == "infrastructure" for verdict in since_progress)
        return _again(history, count, infrastructure_retries, "infrastructure_retries")
    if policy == "failure" and not gave_reason:
        count = sum(POLICIES[verdict.ending] == "failure" for verdict in since_progress)
        return _again(history, count, failure_retries, "failure_retries")
    return Next(action="stop", why=_ADVICE.get(last.ending, ""))


def _again(history: Sequence[Verdict], count: int, budget: int, name: str) -> Next:
    last = history[-1]
    if count > budget:
        return Next(action="stop", why=f"{count} times without progress; {name} = {budget}")
    delay = 0.0 if last.ending is Ending.PREEMPTED else min(_FIRST_DELAY_S * 2 ** (count - 1), _MAX_DELAY_S)
    blamed = [v.nodes for v in history if v.ending in _BLAMES_ITS_NODE and v.nodes and not set("[,") & set(v.nodes)]
    return Next(
        action="again",
        why=f"{last.ending} on {last.nodes or 'no node'}; attempt {count} of {budget}",
        delay_s=delay,
        exclude=tuple(dict.fromkeys(blamed)),
    )


def _since_progress(history: Sequence[Verdict], steps: Sequence[int]) -> Sequence[Verdict]:
    begin = max((index for index in range(len(history)) if steps[index + 1] > steps[index]), default=0)
    return history[begin:]


_ADVICE = {
    Ending.OUT_OF_MEMORY: "raise mem, use more nodes, or a smaller micro_batch_size",
    Ending.CANCELLED: "somebody ended it with scancel; the same command starts it again from its checkpoint",
    Ending.DEADLINE: "the job's deadline passed",
    Ending.DEPENDENCY: "the job that it depends on failed; change sbatch.dependency",
}
