import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from store_processes import NUM_EACH, NUM_PROCESSES

from nemo_runspec.artifacts import ArtifactStore


def run_processes(part: str, root: Path, *more: str) -> dict[str, Any]:
    script = Path(__file__).with_name("store_processes.py")
    done = subprocess.run([sys.executable, script, part, root, *more], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_publishers_at_once_each_get_a_version_of_their_own(tmp_path: Path) -> None:
    told = run_processes("publish", tmp_path / "store")
    assert sorted(told, key=lambda version: int(version[1:])) == [f"v{n}" for n in range(NUM_PROCESSES * NUM_EACH)]


def test_publishers_at_once_lose_nothing(tmp_path: Path) -> None:
    told = run_processes("publish", tmp_path / "store")
    kept = {ref.version: ref.metadata["text"] for ref in ArtifactStore(tmp_path / "store").versions("data")}
    assert kept == told


def test_a_publisher_killed_at_any_step_leaves_the_store_whole(tmp_path: Path) -> None:
    answer = run_processes("kill", tmp_path / "store")
    assert int(answer["kills"]) > 30
    assert answer["exit"] == "0"


def test_readers_at_once_all_find_the_files(tmp_path: Path) -> None:
    assert run_processes("read", tmp_path / "store") == {}


@pytest.mark.parametrize(
    ("duration_s", "num_kills"), [("2", 10), pytest.param("60", 300, marks=pytest.mark.slow)], ids=["slice", "campaign"]
)
def test_publishers_killed_at_random_lose_nothing_acknowledged_and_tear_nothing(
    duration_s: str, num_kills: int, tmp_path: Path
) -> None:
    answer = run_processes("campaign", tmp_path / "store", duration_s)
    assert answer["kills"] >= num_kills
    assert min(answer["acknowledged"], answer["reads"], answer["collected"]) > 0
