"""An sbatch that does not say clearly what it did: there is one job afterwards; none if Slurm refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bare_job import CLIENT, prepare, wait
from cluster.cluster import SYSTEM_PATH, Cluster

from nemo_runspec.errors import SlurmRefused
from nemo_runspec.slurm import client
from nemo_runspec.slurm.monitor import Monitor
from nemo_runspec.slurm.states import Ending

TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
AWAY = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"
NOISE = "Welcome to the cluster: 4 nodes, 12 jobs"
# The first call does as it is told here, later ones as the real sbatch does.
CASES = {
    "submits and says that it timed out": (f'$REAL "$@" >/dev/null; echo "{TIMED_OUT}" >&2; exit 1', 1),
    "submits and hangs": ('$REAL "$@" >/dev/null; exec sleep 600', 1),
    "submits and is killed": ('$REAL "$@" >/dev/null; kill -9 $$', 1),
    "submits and prints no id": ('$REAL "$@" >/dev/null', 1),
    "hangs and does not submit": ("exec sleep 600", 2),
    "fails and does not submit": (f'echo "{AWAY}" >&2; exit 1', 2),
    "prints more than the id": (f'echo "{NOISE}"; $REAL "$@"; echo; echo "{NOISE}"; echo "{NOISE}" >&2', 1),
}


@pytest.fixture
def use_sbatch(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts an sbatch first on PATH whose first call is the shell lines given; returns the file that lists its calls."""

    def use(first_call: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        wrapper, calls = folder / "sbatch", folder / "calls"
        wrapper.write_text(
            f"#!/bin/bash\nREAL={shutil.which('sbatch', path=SYSTEM_PATH)}\necho call >> {calls}\n"
            f'[ $(wc -l < {calls}) -gt 1 ] && exec $REAL "$@"\n{first_call}\n'
        )
        wrapper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{slurm.env['PATH']}")
        return calls

    return use


@pytest.mark.parametrize("case", CASES)
def test_there_is_one_job_after_an_sbatch_that(
    slurm: Cluster,
    use_sbatch: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tell: Callable[[str], None],
    case: str,
) -> None:
    first_call, num_calls = CASES[case]
    if "hangs" in case:
        monkeypatch.setattr(client, "SUBMIT_TIMEOUT_S", 5.0)
    calls = use_sbatch(first_call)
    job = prepare(tmp_path / "ambiguous", 'echo "$SLURM_JOB_ID" >> ../../work.txt', run_id=tmp_path.name)
    job_id = job.submit()
    monitor = Monitor(client=CLIENT, poll_s=1.0)
    verdict = wait(monitor, monitor.watch(job.attempt, job_id, num_gpus=0))
    jobs = slurm.jobs(name=job.attempt.intent.key)
    called = len(calls.read_text().splitlines())
    tell(f"sbatch that {case}: {len(jobs)} job, {called} calls of sbatch, {verdict.ending}")
    assert [line.split()[0] for line in jobs] == [str(job_id)]
    assert (verdict.ending, called) == (Ending.COMPLETED, num_calls)
    assert (tmp_path / "ambiguous" / "work.txt").read_text().split() == [str(job_id)]


def test_there_is_no_job_and_no_second_call_after_an_sbatch_that_slurm_refuses(
    slurm: Cluster, use_sbatch: Callable[[str], Path], tmp_path: Path
) -> None:
    calls = use_sbatch('exec $REAL "$@"')
    job = prepare(tmp_path / "refused", "exit 0", run_id=tmp_path.name, directives=["--partition=nowhere"])
    with pytest.raises(SlurmRefused, match="invalid partition"):
        job.submit()
    assert calls.read_text().split() == ["call"]
    assert slurm.jobs(name=job.attempt.intent.key) == []
    assert job.attempt.job_id() is None
