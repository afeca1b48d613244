import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.artifacts.gc import collect_garbage
from nemo_runspec.artifacts.gc_lock import hold_exclusive, hold_shared
from nemo_runspec.errors import StoreError


def run_processes(part: str, root: Path) -> dict[str, Any]:
    script = Path(__file__).with_name("gc_processes.py")
    done = subprocess.run([sys.executable, script, part, root], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_all_versions_published_while_garbage_is_collected_are_whole(tmp_path: Path) -> None:
    answer = run_processes("publish", tmp_path / "store")
    assert min(answer["runs"], answer["deleted"], answer["published"]) > 0


def test_what_a_publisher_killed_at_any_step_leaves_is_collected(tmp_path: Path) -> None:
    answer = run_processes("kill-publisher", tmp_path / "store")
    assert answer["kills"] > 30
    assert answer["collected"] > 30
    assert answer["exit"] == 0


def test_a_collector_killed_at_any_step_leaves_the_store_whole(tmp_path: Path) -> None:
    answer = run_processes("kill-collector", tmp_path / "store")
    assert answer["kills"] > 20
    assert answer["exit"] == 0


def test_a_publisher_that_takes_too_long_is_named(publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "x"})
    with (
        store._writing("publishing"),
        pytest.raises(
            StoreError,
            match=rf"^artifact store {store.path}: still being written by process {os.getpid()} on \S+ after waiting "
            r"0\.1 s; nothing was deleted; wait for that to end, or wait longer with --wait-s$",
        ),
    ):
        collect_garbage(store, wait_s=0.1)


def test_another_collector_at_work_is_named(publish: Publisher, store: ArtifactStore) -> None:
    publish({"a": "x"})
    with (
        hold_exclusive(store.path, wait_s=0),
        pytest.raises(StoreError, match="another garbage collection is still at work after waiting 0 s"),
    ):
        collect_garbage(store, wait_s=0)


def test_many_publish_at_once(tmp_path: Path) -> None:
    with hold_shared(tmp_path), hold_shared(tmp_path):
        assert (tmp_path / "gc.lock").read_bytes() == b""


def test_a_lock_that_is_a_link_is_refused(publish: Publisher, store: ArtifactStore, tmp_path: Path) -> None:
    store.path.mkdir()
    (store.path / "gc.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"publishing data failed \(.*gc\.lock\)"):
        publish({"a": "x"})
    assert not (tmp_path / "elsewhere").exists()
