import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from s3_server import Fault, S3Server

from nemo_runspec.artifacts import ArtifactStore, Producer

DIRECTORY = ["place", "sync", "hard links", "exclusive creation", "whole files", "locks", "speed", "other machines"]
BUCKET = ["place", "exclusive creation", "whole files", "leases", "speed", "other machines"]


def doctor(store: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code and the checks by their names."""
    command = [sys.executable, "-m", "nemotron.cli", "artifacts", "doctor", "--store", store, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def outcomes(checks: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: check["outcome"] for name, check in checks.items()}


def test_a_directory_on_a_local_disk_is_fit(tmp_path: Path) -> None:
    code, checks = doctor(str(tmp_path / "store"))
    assert (code, outcomes(checks)) == (0, dict.fromkeys(DIRECTORY, "ok") | {"other machines": "unknown"})
    assert checks["exclusive creation"]["said"] == "4 processes created 50 names at once, each once"
    assert checks["whole files"]["said"].startswith(
        "20 new files, each whole when 3 other processes first saw it, within"
    )
    assert "small files a second by one process; a publication takes" in checks["speed"]["said"]
    assert checks["other machines"]["advice"].startswith("run it on a compute node too: srun nemotron artifacts doctor")
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_is_fit(s3_bucket: str) -> None:
    code, checks = doctor(f"{s3_bucket}/team")
    assert (code, outcomes(checks)) == (0, dict.fromkeys(BUCKET, "ok") | {"other machines": "unknown"})
    assert checks["place"]["said"] == f"{s3_bucket}/team at {os.environ['AWS_ENDPOINT_URL']}: no store yet"
    assert ArtifactStore(s3_bucket).backend.list_names("") == []


def test_a_store_in_use_stays_as_it_is(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    producer = Producer(run_id="run", stage="stage", fingerprint="f0")
    store.publish(Path(__file__), name="data", type="T", metadata={}, producer=producer)
    before = sorted(tmp_path.rglob("*"))
    code, checks = doctor(store.location)
    assert (code, checks["place"]["said"].rpartition(": ")[2]) == (0, "a store")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_that_other_processes_do_not_see_is_unfit() -> None:
    code, checks = doctor("memory://doctor")
    failed = ["exclusive creation", "whole files", "leases"]
    assert (code, [name for name, outcome in outcomes(checks).items() if outcome == "failed"]) == (1, failed)
    assert "50 were created more than once" in checks["exclusive creation"]["said"]
    assert checks["exclusive creation"]["advice"].startswith("set NEMOTRON_STORE to another place")


def test_a_bucket_that_may_only_be_read_is_unfit(s3_bucket: str, s3_server: S3Server) -> None:
    s3_server.set_faults(Fault(method="PUT", path="", kind="403", times=1000))
    code, checks = doctor(s3_bucket)
    assert (code, list(checks)) == (1, ["place", "other machines"])
    assert "was denied (as the test wants); check AWS_ACCESS_KEY_ID and AWS_SECRET" in checks["place"]["said"]


@pytest.mark.parametrize(
    ("store", "said", "advice"),
    [
        ("/proc/store", "/proc/store: No such file or directory", "make it a place you can read and write, or set"),
        ("s3://no-such-bucket", "artifact store s3://no-such-bucket/tmp/", "make it a place you can read and write"),
    ],
)
@pytest.mark.usefixtures("s3_bucket")
def test_a_place_that_cannot_be_written_is_unfit(store: str, said: str, advice: str) -> None:
    code, checks = doctor(store)
    assert (code, list(checks)) == (1, ["place", "other machines"])
    assert checks["place"]["outcome"] == "failed"
    assert checks["place"]["said"].startswith(said)
    assert checks["place"]["advice"].startswith(advice)
