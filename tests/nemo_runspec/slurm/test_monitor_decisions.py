"""What the monitor concludes from what it has seen; that it sees it rightly is tested on the real cluster."""

import pytest

from nemo_runspec.slurm.monitor import ACCOUNTING_GRACE_S, LOST_AFTER_S, choose_job, exit_code_of, is_settled
from nemo_runspec.slurm.states import Accounting, DoneRecord
from nemo_runspec.slurm.text import QueueRow


def row(job_id: int, state: str) -> QueueRow:
    return QueueRow(
        job_id=job_id, name="key", state=state, reason="", nodes="", submitted=None, started=None, ended=None
    )


def account(state: str) -> Accounting:
    return Accounting(job_id=1, name="key", state=state)


def done(exit_code: int) -> DoneRecord:
    return DoneRecord(job_id=1, exit_code=exit_code, started=1, ended=2, stop_requested=False, nodes="")


def settled(
    queue_word: str | None = None,
    *,
    accounting: Accounting | None = None,
    asked: bool = True,
    record: DoneRecord | None = None,
    waited_s: float = 1.0,
    alive: bool = False,
) -> bool:
    return is_settled(
        queue_word=queue_word, accounting=accounting, asked=asked, done=record, waited_s=waited_s, alive=alive
    )


def test_the_job_that_claimed_the_attempt_counts_even_if_the_queue_has_forgotten_it() -> None:
    assert choose_job([row(7, "COMPLETED")], known=7, claimed=6) == (6, None)


def test_a_live_job_of_the_name_counts_where_the_known_id_is_not_there() -> None:
    assert choose_job([row(3, "FAILED"), row(4, "PENDING")], known=99, claimed=None) == (4, row(4, "PENDING"))
    assert choose_job([row(3, "FAILED")], known=99, claimed=None) == (99, None)


def test_a_good_end_that_the_job_recorded_needs_no_accounting() -> None:
    assert settled("COMPLETED", record=done(0), asked=False)


def test_a_bad_end_waits_for_accounting_but_not_for_ever() -> None:
    assert not settled("FAILED", record=done(3), asked=False)
    assert settled("FAILED", record=done(3), accounting=account("FAILED"))
    assert settled("FAILED", record=done(3), asked=False, waited_s=ACCOUNTING_GRACE_S)


@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED", "BOOT_FAIL"])
def test_an_end_after_which_slurm_may_requeue_is_believed_at_the_second_look(state: str) -> None:
    assert not settled(state, accounting=account(state), waited_s=0.0)
    assert settled(state, accounting=account(state), waited_s=20.0)


def test_completed_without_a_record_waits_for_a_slow_file_system() -> None:
    assert not settled("COMPLETED", accounting=account("COMPLETED"))
    assert settled("COMPLETED", accounting=account("COMPLETED"), waited_s=ACCOUNTING_GRACE_S)


def test_the_exit_code_is_the_jobs_own_where_accounting_lacks_it() -> None:
    assert exit_code_of(account("FAILED"), done(5)) == "5:0"
    assert exit_code_of(None, done(0)) == "0:0"
    assert exit_code_of(account("TIMEOUT"), done(143)) == "0:0"
    assert exit_code_of(account("FAILED"), None) == "0:0"


def test_a_job_unknown_to_all_is_lost_only_without_a_sign_of_life_and_when_accounting_answers() -> None:
    assert settled(waited_s=LOST_AFTER_S)
    assert not settled(waited_s=LOST_AFTER_S, alive=True)
    assert not settled(waited_s=24 * 3600.0, asked=False)
    assert not settled(waited_s=LOST_AFTER_S - 1)
