"""A sync from a server that fails: what passes is borne, what does not is told in one line, and nothing is lost."""

import re
from pathlib import Path
from typing import Any

import pytest
from mirrored_store import MirroredStore
from pydantic import SecretStr
from wandb_server.server import WandbServerProcess

from nemo_runspec.mirror.outbox import pending
from nemo_runspec.mirror.server import WandbServer

ALWAYS = 1_000_000
PASSING = {
    "a commit answered 500 twice": {"operation": "CommitArtifact", "status": 500, "times": 2},
    "an artifact answered 503 twice": {"operation": "CreateArtifact", "status": 503, "times": 2},
    "a run answered 500 twice": {"operation": "UpsertBucket", "status": 500, "times": 2},
    "an upload answered 503 twice": {"path": "/storage/", "method": "PUT", "status": 503, "times": 2},
    "a use answered 500": {"operation": "UseArtifact", "status": 500},
    "a question answered 502 twice": {"path": "/graphql", "status": 502, "times": 2},
    "a stream answered 500": {"path": "/files/", "status": 500, "times": 2},
    "a cut before a commit": {"operation": "CommitArtifact", "cut": True},
    "a cut after a commit": {"operation": "CommitArtifact", "cut": True, "after": True},
    "a cut before an artifact": {"operation": "CreateArtifact", "cut": True},
    "a cut after an artifact": {"operation": "CreateArtifact", "cut": True, "after": True},
    "a cut after a use": {"operation": "UseArtifact", "cut": True, "after": True},
    "a cut upload": {"path": "/storage/", "method": "PUT", "cut": True},
}
QUICK = ("a cut after a commit", "an upload answered 503 twice")


def assert_all_there(mirror: MirroredStore) -> None:
    """Both versions are there once, with the edge between them."""
    assert [list(mirror.collection(name)["versions"]) for name in ("data", "model")] == [["v0"], ["v0"]]
    assert mirror.run("make-model")["used"] == ["data:v0"]


@pytest.fixture
def mirror(doubled: MirroredStore) -> MirroredStore:
    """Two versions wait, the second made from the first."""
    doubled.publish("model", inputs=[doubled.publish("data")])
    return doubled


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=() if what in QUICK else pytest.mark.slow) for what in PASSING]
)
def test_a_passing_fault_is_borne(what: str, mirror: MirroredStore, wandb_double: WandbServerProcess) -> None:
    wandb_double.fault(**PASSING[what])
    assert mirror.sync().failed == {}
    assert_all_there(mirror)


LASTING: dict[str, tuple[dict[str, Any], str]] = {
    "401": ({"path": "/", "status": 401}, "the API key is not known there; set another WANDB_API_KEY"),
    "500": ({"path": "/", "status": 500}, "answered 500 Internal Server Error; wait until it does"),
    "cut": ({"path": "/", "cut": True}, "does not answer: .*; wait until it does"),
}


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=pytest.mark.slow if what == "500" else ()) for what in LASTING]
)
def test_a_lasting_fault_is_told_once_and_all_waits(
    what: str, mirror: MirroredStore, wandb_double: WandbServerProcess
) -> None:
    fault, told = LASTING[what]
    wandb_double.fault(**fault, times=ALWAYS)
    failed = mirror.sync().failed
    assert list(failed) == ["data:v0", "model:v0"]
    (reason,) = set(failed.values())
    assert re.fullmatch(f"W&B {mirror.server.url}:? {told}, then run nemotron artifacts sync", reason)
    assert len(pending(mirror.store, mirror.wandb)) == 2


def test_a_server_that_is_down_is_told_and_all_waits(tmp_path: Path) -> None:
    nowhere = WandbServerProcess(url="http://127.0.0.1:1", key="k" * 40)
    mirror = MirroredStore(folder=tmp_path, server=nowhere, project="p")
    mirror.publish("model", inputs=[mirror.publish("data")])
    (reason,) = set(mirror.sync().failed.values())
    assert reason == (
        "W&B http://127.0.0.1:1 does not answer: [Errno 111] Connection refused; wait until it does, then run nemotron "
        "artifacts sync"
    )
    assert len(pending(mirror.store, mirror.wandb)) == 2


def test_a_refused_project_is_told_and_holds_up_only_what_was_made_from_it(
    mirror: MirroredStore, wandb_double: WandbServerProcess
) -> None:
    mirror.publish("other")
    wandb_double.fault(operation="CreateArtifact", status=403)
    report = mirror.sync()
    assert report.failed["data:v0"].startswith(f"W&B {mirror.server.url} denied permission: ")
    assert report.failed["data:v0"].endswith(
        "; ask for write access to the project, or name another entity or project in [wandb], then run nemotron "
        "artifacts sync"
    )
    assert report.failed["model:v0"] == "not sent, since its input data:v0 was not"
    assert list(report.synced) == ["other:v0"]


@pytest.mark.slow
def test_an_answer_that_does_not_come_is_given_up_and_the_next_version_tried(
    mirror: MirroredStore, wandb_double: WandbServerProcess
) -> None:
    mirror.publish("other")
    wandb_double.fault(operation="CommitArtifact", delay_s=600)
    report = mirror.sync(timeout_s=5)
    assert report.failed["data:v0"] == (
        f"W&B server {mirror.server.url}: no answer within 5 s; wait, then run nemotron artifacts sync"
    )
    assert list(report.synced) == ["other:v0"]
    mirror.sync()
    assert_all_there(mirror)


def test_a_key_is_never_told(mirror: MirroredStore) -> None:
    key = "s3cr3t" * 8
    report = mirror.sync(server=WandbServer(base_url=mirror.server.url, api_key=SecretStr(key)))
    assert len(report.failed) == 2
    assert key not in str(report)


def test_without_a_key_nothing_is_asked(mirror: MirroredStore, wandb_double: WandbServerProcess) -> None:
    before = wandb_double.state()["operations"]
    report = mirror.sync(server=WandbServer(base_url=mirror.server.url))
    assert set(report.failed.values()) == {
        f"no API key for W&B server {mirror.server.url}; set WANDB_API_KEY and WANDB_BASE_URL={mirror.server.url}, "
        "or store one with `wandb login --host "
        f"{mirror.server.url}`, then run nemotron artifacts sync"
    }
    assert wandb_double.state()["operations"] == before
