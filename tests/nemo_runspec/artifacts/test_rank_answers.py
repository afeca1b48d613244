"""Real processes that are the ranks of a job: one asks the store, all work on what it found."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactStore

SCRIPT = """
import json
from pathlib import Path
from nemo_runspec.script import load_train_config, run_script
def main(path: Path) -> None:
    found = load_train_config(path)
    Path(found.pop("out")).write_text(json.dumps(found))
run_script(main)
"""
CONFIG = """
run: {data: "data:latest"}
version: ${art:data,version}
rows: ${art:data,rows}
dir: ${art:data}
out: out-${oc.env:RANK}.json
"""
ASKS = """
import os, sys, time
from pathlib import Path
from nemo_runspec.artifacts.rank_answers import Ranks
def answer():
    Path("begun").touch()
    {body}
    return {{"rank": os.environ["RANK"]}}
print(Ranks.from_environment().ask("who?", answer))
"""
VARIABLES = ("RANK", "WORLD_SIZE", "NEMO_RUN_DIR", "NEMOTRON_RUN_ID", "MASTER_PORT")
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(store: ArtifactStore, tmp_path: Path) -> Iterator[Start]:
    """Starts a rank of the script in the directory; `body` makes it one that asks a question that takes that long."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NEMOTRON", "SLURM", "TORCH"))}
    shared = {"NEMOTRON_STORE": str(store.path), "NEMO_RUN_DIR": str(tmp_path / "shared"), "WORLD_SIZE": "4"}
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "train.yaml").write_text(CONFIG)
    started: list[subprocess.Popen[str]] = []

    def begin(rank: int, *, body: str = "", **env: str) -> subprocess.Popen[str]:
        words = ["-c", ASKS.format(body=body)] if body else ["train.py", "--config", "train.yaml"]
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=tmp_path,
            env={**clean, **shared, "RANK": str(rank), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def end(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code and standard error of each."""
    errors = [process.communicate(timeout=60)[1] for process in processes]
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


def found(folder: Path, rank: int) -> dict[str, object]:
    """What the rank found in its config."""
    answer: dict[str, object] = json.loads((folder / f"out-{rank}.json").read_text())
    return answer


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_all_ranks_work_on_what_rank_0_found_whatever_is_published_meanwhile(
    publish: Publisher, start: Start, tmp_path: Path
) -> None:
    publish({"a": "x"}, metadata={"rows": 3})
    first = end([start(0)])
    publish({"a": "y"}, metadata={"rows": 4})
    others = end([start(rank) for rank in (1, 2, 3)])
    assert first + others == [(0, "")] * 4
    assert found(tmp_path, 0)["version"] == "v0"
    assert found(tmp_path, 1) == found(tmp_path, 2) == found(tmp_path, 3) == found(tmp_path, 0)


def test_the_others_wait_for_a_late_rank_0(publish: Publisher, start: Start, tmp_path: Path) -> None:
    publish({"a": "x"}, metadata={"rows": 3})
    others = [start(rank) for rank in (1, 2, 3)]
    time.sleep(1.5)
    assert end([start(0), *others]) == [(0, "")] * 4
    assert found(tmp_path, 3) == found(tmp_path, 0)


def test_what_rank_0_fails_with_ends_all_at_once(start: Start) -> None:
    began = time.monotonic()
    endings = end([start(rank) for rank in (3, 2, 1, 0)])
    assert {code for code, _ in endings} == {2}
    assert len({error for _, error in endings}) == 1
    assert endings[0][1].startswith("error: no artifact 'data' in ")
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "variable",
    ["TORCHELASTIC_RESTART_COUNT", "SLURM_JOB_ID", "SLURM_RESTART_COUNT", "NEMOTRON_RUN_ID", "MASTER_PORT"],
)
def test_the_answer_of_another_attempt_is_not_read(
    variable: str, publish: Publisher, start: Start, tmp_path: Path
) -> None:
    publish({"a": "x"}, metadata={"rows": 3})
    end([start(0, **{variable: "1"})])
    publish({"a": "y"}, metadata={"rows": 4})
    later = end([start(1, **{variable: "2"}), start(0, **{variable: "2"})])
    assert later == [(0, "")] * 2
    assert (found(tmp_path, 0)["version"], found(tmp_path, 1)["version"]) == ("v1", "v1")


def test_a_job_has_a_directory_of_its_own(publish: Publisher, start: Start, tmp_path: Path) -> None:
    publish({"a": "x"}, metadata={"rows": 3})
    assert end([start(0, NEMOTRON_JOB_DIR=str(tmp_path / "job"))]) == [(0, "")]
    assert [path.name for path in tmp_path.glob("*/rank-answers")] == ["rank-answers"]
    assert (tmp_path / "job" / "rank-answers").is_dir()


@pytest.mark.parametrize(("variable", "value"), [("NEMO_RUN_DIR", ""), ("WORLD_SIZE", "1")])
def test_without_a_shared_directory_or_others_each_rank_asks_for_itself(
    variable: str, value: str, publish: Publisher, start: Start, tmp_path: Path
) -> None:
    publish({"a": "x"}, metadata={"rows": 3})
    assert end([start(1, **{variable: value})]) == [(0, "")]
    assert found(tmp_path, 1)["version"] == "v0"
    assert not (tmp_path / "shared").exists()


def test_a_rank_0_that_never_comes_is_told(start: Start) -> None:
    ((code, error),) = end([start(1, NEMOTRON_RANK_TIMEOUT_S="1")])
    assert code == 2
    assert "error: rank 1: rank 0 did not start to answer 'data:latest (any type) in " in error
    assert "NEMOTRON_RANK_TIMEOUT_S = 1); see its log, and whether all nodes share that directory" in error


def start_two_once_begun(start: Start, folder: Path, *, body: str, timeout_s: int) -> list[subprocess.Popen[str]]:
    """Rank 0, and rank 1 as soon as that is at its work."""
    first = start(0, body=body, NEMOTRON_RANK_TIMEOUT_S=str(timeout_s))
    wait_for(folder / "begun")
    return [first, start(1, body=body, NEMOTRON_RANK_TIMEOUT_S=str(timeout_s))]


def test_a_rank_0_that_works_longer_than_the_limit_is_waited_for(start: Start, tmp_path: Path) -> None:
    ranks = start_two_once_begun(start, tmp_path, body="time.sleep(8)", timeout_s=3)
    assert end(ranks) == [(0, "")] * 2


def test_a_rank_0_that_was_killed_at_work_is_told(start: Start, tmp_path: Path) -> None:
    rank_0, rank_1 = start_two_once_begun(start, tmp_path, body="time.sleep(60)", timeout_s=3)
    time.sleep(1)
    rank_0.kill()
    ((code, error),) = end([rank_1])
    assert code == 1
    assert "rank 1: rank 0 stopped while it was to answer 'who?'" in error


def test_an_error_that_is_a_defect_is_told_as_that_of_rank_0(start: Start) -> None:
    (_, first), (_, second) = end([start(rank, body="raise KeyError('lost')") for rank in (0, 1)])
    assert "KeyError: 'lost'" in first
    assert "ArtifactError: rank 0: KeyError: 'lost'" in second


def test_a_shared_directory_that_cannot_be_written_is_told(start: Start, tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("a file")
    ((code, error),) = end([start(0, body="pass")])
    assert code == 1
    assert f"{tmp_path}/shared/rank-answers" in error
    assert "make it a directory with free space that all ranks can write" in error


def run_under_torchrun(folder: Path, store: ArtifactStore) -> list[object]:
    """Run the script as two ranks; the version that each found."""
    env = {**os.environ, "NEMOTRON_STORE": str(store.path), "NEMO_RUN_DIR": str(folder / "shared")}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    command = [*launcher, "--rdzv-endpoint", "localhost:0", "train.py", "--config", "train.yaml"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return [found(folder, rank)["version"] for rank in (0, 1)]


@pytest.mark.usefixtures("start")
def test_under_torchrun_each_start_asks_anew(publish: Publisher, store: ArtifactStore, tmp_path: Path) -> None:
    publish({"a": "x"}, metadata={"rows": 3})
    first = run_under_torchrun(tmp_path, store)
    publish({"a": "y"}, metadata={"rows": 3})
    assert (first, run_under_torchrun(tmp_path, store)) == (["v0", "v0"], ["v1", "v1"])
    assert len(list((tmp_path / "shared" / "rank-answers").iterdir())) == 2
