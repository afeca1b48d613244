"""Each text, submitted as it is to a real cluster: what starts, how often, and with which arguments."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from job_specs import EXIT_CODE, NASTY, OPTIONS, SETUP, STARTS, SUBMITTERS

from nemo_runspec.slurm.spec import JOB_DIR, JobSpec
from nemo_runspec.submitters import Submitter

Rendered = Callable[[Submitter, JobSpec], str]
every_submitter = pytest.mark.parametrize("submitter", SUBMITTERS)


@dataclass(frozen=True, kw_only=True)
class Ended:
    code: int
    log: str
    starts: dict[str, dict[str, Any]]
    shown: str


def run_job(text: str, folder: Path, cluster: Any) -> Ended:
    (folder / "code").mkdir()
    shutil.copy(Path(__file__).with_name("record_start.py"), folder / "code")
    (folder / "job.sh").write_bytes(text.replace(JOB_DIR, str(folder)).encode())
    options = [f"--output={folder / 'log.txt'}", "--open-mode=append", "--export=ALL,OMP_NUM_THREADS=1"]
    variables = {**os.environ, **cluster.env, "NEMOTRON_JOB_DIR": str(folder)}
    job_id = subprocess.check_output(["sbatch", "--parsable", *options, folder / "job.sh"], env=variables, text=True)
    deadline = time.monotonic() + 120
    while job_id.strip() in cluster.ask("squeue", "-h", "-o", "%A").split():
        assert time.monotonic() < deadline, (folder / "log.txt").read_text()
        time.sleep(0.1)
    shown = cluster.ask("scontrol", "--oneliner", "show", "job", job_id.strip())
    code = re.search(r" ExitCode=(\d+):0 ", shown)
    assert code is not None, shown
    starts = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("start-*.json"))}
    return Ended(code=int(code[1]), log=(folder / "log.txt").read_text(), starts=starts, shown=shown)


@every_submitter
@pytest.mark.parametrize(
    ("name", "places", "total"),
    [
        ("direct", ["0-0-0", "0-1-0", "1-2-0", "1-3-0"], None),
        ("torchrun", ["0-0-0", "0-0-1", "1-1-0", "1-1-1"], 6.0),
        ("startup", ["0-0-0", "0-0-1", "1-1-0", "1-1-1"], 6.0),
        ("ray", ["0-0-0"], None),
    ],
)
def test_each_process_starts_once_with_its_arguments_as_they_were(
    rendered: Rendered,
    slurm_cluster: Any,
    tmp_path: Path,
    submitter: Submitter,
    name: str,
    places: list[str],
    total: float | None,
) -> None:
    ended = run_job(rendered(submitter, STARTS[name]), tmp_path, slurm_cluster)
    assert ended.code == 0, ended.log
    assert list(ended.starts) == [f"start-{place}" for place in places]
    assert [start["argv"] for start in ended.starts.values()] == [list(NASTY)] * len(places)
    assert {start["cwd"] for start in ended.starts.values()} == {str(tmp_path / "code")}
    assert {start.get("sum") for start in ended.starts.values()} == {total}
    assert {start["greeting"] for start in ended.starts.values()} == {"a b" if name == "startup" else None}
    assert ended.log.count("started ") == len(places)
    assert not Path("/tmp/nemotron-was-here").exists()


@every_submitter
def test_the_job_ends_with_the_exit_code_of_the_script(
    rendered: Rendered, slurm_cluster: Any, tmp_path: Path, submitter: Submitter
) -> None:
    assert run_job(rendered(submitter, EXIT_CODE), tmp_path, slurm_cluster).code == 3


@every_submitter
def test_setup_lines_run_before_and_a_failing_one_does_not_end_the_job(
    rendered: Rendered, slurm_cluster: Any, tmp_path: Path, submitter: Submitter
) -> None:
    ended = run_job(rendered(submitter, SETUP), tmp_path, slurm_cluster)
    assert ended.code == 0, ended.log
    assert [start["greeting"] for start in ended.starts.values()] == ["from /nemo_run"]


@every_submitter
def test_options_of_sbatch_arrive_as_they_were(
    rendered: Rendered, slurm_cluster: Any, tmp_path: Path, submitter: Submitter
) -> None:
    ended = run_job(rendered(submitter, OPTIONS), tmp_path, slurm_cluster)
    assert 'MailUser=it\'s "q" #1 b$x MailType=FAIL' in ended.shown
    assert "gpu:1" in ended.shown
