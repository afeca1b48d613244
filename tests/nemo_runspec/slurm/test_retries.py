"""What follows an attempt, by how it ended and what was done before."""

from nemo_runspec.slurm.ledger import Verdict
from nemo_runspec.slurm.retries import Next, decide
from nemo_runspec.slurm.states import Ending


def verdict(ending: Ending, *, saved_step: int = 0, nodes: str = "n1") -> Verdict:
    return Verdict(
        ending=ending, job_id=1, exit_code="", reason="", nodes=nodes, submitted=0, started=1, ended=2, num_gpus=0,
        saved_step=saved_step,
    )  # fmt: skip


def following(*history: Verdict, first_step: int = 0, gave_reason: bool = False) -> Next:
    return decide(history, first_step=first_step, infrastructure_retries=2, failure_retries=1, gave_reason=gave_reason)


def test_a_completed_stage_is_done() -> None:
    assert following(verdict(Ending.COMPLETED)).action == "done"


def test_a_time_limit_is_followed_by_another_job_as_long_as_each_saves_a_later_checkpoint() -> None:
    links = [verdict(Ending.TIMEOUT, saved_step=10 * link) for link in range(1, 30)]
    assert following(*links).action == "again"
    assert following(*links, verdict(Ending.STOPPED, saved_step=291)).action == "again"


def test_a_link_without_progress_stops_with_advice() -> None:
    stopped = following(verdict(Ending.TIMEOUT, saved_step=10), verdict(Ending.TIMEOUT, saved_step=10))
    assert stopped.action == "stop"
    assert "before a checkpoint was saved" in stopped.why
    assert following(verdict(Ending.STOPPED, saved_step=10), first_step=10).action == "stop"


def test_infrastructure_has_a_budget_of_its_own_and_waits_longer_each_time() -> None:
    one, two = [verdict(Ending.NODE_FAIL)], [verdict(Ending.NODE_FAIL)] * 2
    assert following(*one).action == "again"
    assert following(*two).delay_s > following(*one).delay_s
    assert following(*[verdict(Ending.NODE_FAIL)] * 3).action == "stop"
    assert following(*two, verdict(Ending.FAILED)).action == "again"


def test_progress_gives_the_budget_back() -> None:
    long_run = [verdict(Ending.NODE_FAIL, saved_step=step) for step in (0, 0, 5, 5, 9)]
    assert following(*long_run).action == "again"


def test_a_failed_node_is_excluded_but_not_all_nodes_of_a_wide_job() -> None:
    assert following(verdict(Ending.NODE_FAIL, nodes="n3")).exclude == ("n3",)
    assert following(verdict(Ending.NODE_FAIL, nodes="n[1-64]")).exclude == ()
    assert following(verdict(Ending.PREEMPTED, nodes="n3")).exclude == ()


def test_a_failure_that_the_script_explained_is_not_tried_again() -> None:
    assert following(verdict(Ending.FAILED)).action == "again"
    assert following(verdict(Ending.FAILED), gave_reason=True).action == "stop"
    assert following(verdict(Ending.FAILED), verdict(Ending.FAILED)).action == "stop"


def test_running_out_of_memory_is_never_tried_blindly() -> None:
    stopped = following(verdict(Ending.OUT_OF_MEMORY))
    assert stopped.action == "stop"
    assert "raise mem" in stopped.why
