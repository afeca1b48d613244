"""How a job's end is judged from what squeue, sacct and the job itself say; the rows are of a real Slurm 22.05."""

import pytest

from nemo_runspec.slurm.states import POLICIES, Accounting, DoneRecord, Ending, has_ended, judge


def account(state: str, exit_code: str = "0:0", derived: str = "0:0", reason: str = "") -> Accounting:
    return Accounting(job_id=7, name="k", state=state, exit_code=exit_code, derived_exit_code=derived, reason=reason)


def done(exit_code: int, *, stop_requested: bool = False) -> DoneRecord:
    return DoneRecord(job_id=7, exit_code=exit_code, started=1.0, ended=2.0, stop_requested=stop_requested, nodes="n1")


@pytest.mark.parametrize(
    ("accounting", "record", "expected"),
    [
        (account("COMPLETED"), done(0), Ending.COMPLETED),
        (account("FAILED", "3:0"), done(3), Ending.FAILED),
        (account("FAILED", "0:9"), None, Ending.FAILED),
        (account("FAILED", "69:0"), done(69), Ending.LAUNCH_FAILED),
        (account("FAILED", "0:53"), None, Ending.LAUNCH_FAILED),
        (account("TIMEOUT"), done(143), Ending.TIMEOUT),
        (account("FAILED", "75:0"), done(75, stop_requested=True), Ending.STOPPED),
        (account("COMPLETED"), done(0, stop_requested=True), Ending.COMPLETED),
        (account("OUT_OF_MEMORY", "0:125"), done(0), Ending.OUT_OF_MEMORY),
        (account("FAILED", "1:0", "0:125"), done(1), Ending.OUT_OF_MEMORY),
        (account("COMPLETED", "0:0", "0:125"), done(0), Ending.OUT_OF_MEMORY),
        (account("FAILED", "1:0", "0:125"), done(1, stop_requested=True), Ending.OUT_OF_MEMORY),
        (account("NODE_FAIL"), None, Ending.NODE_FAIL),
        (account("NODE_FAIL", "1:0"), done(1), Ending.NODE_FAIL),
        (account("BOOT_FAIL"), None, Ending.BOOT_FAIL),
        (account("PREEMPTED"), done(143), Ending.PREEMPTED),
        (account("CANCELLED"), done(143), Ending.CANCELLED),
        (account("CANCELLED", reason="DependencyNeverSatisfied"), None, Ending.DEPENDENCY),
        (account("DEADLINE"), None, Ending.DEADLINE),
        (account("REVOKED"), None, Ending.LOST),
        (None, done(0), Ending.COMPLETED),
        (None, done(4), Ending.FAILED),
        (None, done(4, stop_requested=True), Ending.STOPPED),
        (None, None, Ending.LOST),
    ],
)
def test_an_ending_is_recorded_as_itself(
    accounting: Accounting | None, record: DoneRecord | None, expected: Ending
) -> None:
    assert judge(state=None, accounting=accounting, done=record) is expected


@pytest.mark.parametrize("state", ["TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "DEADLINE", "CANCELLED"])
def test_the_queue_alone_tells_an_ending_where_there_is_no_accounting(state: str) -> None:
    assert judge(state=state) is Ending(state)


def test_a_job_that_completed_in_the_queue_but_says_it_failed_has_failed() -> None:
    assert judge(state="COMPLETED", done=done(1)) is Ending.FAILED


def test_a_failure_of_srun_to_start_the_tasks_is_no_failure_of_the_script() -> None:
    accounting = account("FAILED", "105:0")
    assert judge(state=None, accounting=accounting, done=done(233), launch_failed=True) is Ending.LAUNCH_FAILED
    assert judge(state=None, accounting=account("COMPLETED"), done=done(0), launch_failed=True) is Ending.COMPLETED


def test_a_job_that_completed_without_ever_beginning_did_nothing() -> None:
    assert judge(state=None, accounting=account("COMPLETED"), claimed=False) is Ending.LAUNCH_FAILED


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED", "A_NEW_WORD"])
def test_a_job_in_any_other_state_is_live(state: str) -> None:
    assert not has_ended(state)


@pytest.mark.parametrize("state", ["CANCELLED by 1001", "CANCELLED+", "TIMEOUT"])
def test_the_first_word_of_a_state_counts(state: str) -> None:
    assert has_ended(state)


def test_every_ending_has_a_policy() -> None:
    assert set(POLICIES) == set(Ending)
