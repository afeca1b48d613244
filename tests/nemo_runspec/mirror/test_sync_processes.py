"""Syncs that are killed and syncs at the same time leave what one undisturbed sync leaves."""

from collections.abc import Callable
from typing import Any

import pytest
from metrics_stage import wait_for
from mirrored_store import CHAIN, MirroredStore, Server, new_project
from wandb_server.server import WandbServerProcess

from nemo_runspec.mirror.outbox import pending


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, wandb_any: Server) -> dict[str, Any]:
    mirror = MirroredStore(folder=tmp_path_factory.mktemp("undisturbed"), server=wandb_any, project=new_project())
    mirror.publish_chain()
    mirror.sync()
    return mirror.graph()


def test_a_sync_killed_again_and_again_ends_as_an_undisturbed_one(
    mirrored: MirroredStore, undisturbed: dict[str, Any]
) -> None:
    mirrored.publish_chain()
    mirrored.sync_with_kills(2, seed=1)
    assert mirrored.graph() == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 30))
def test_a_sync_killed_at_many_moments_ends_as_an_undisturbed_one(
    seed: int, mirrored: MirroredStore, undisturbed: dict[str, Any], tell: Callable[[str], None]
) -> None:
    mirrored.publish_chain()
    num_kills = mirrored.sync_with_kills(6, seed=seed)
    assert mirrored.graph() == undisturbed
    tell(f"sync with seed {seed}: {num_kills} killed, lineage as of an undisturbed one")


def test_syncs_of_all_at_the_same_time_end_as_one(mirrored: MirroredStore, undisturbed: dict[str, Any]) -> None:
    mirrored.publish_chain()
    mirrored.sync_at_once(*[f"{CHAIN[-1][0]}:v0"] * 3)
    assert mirrored.graph() == undisturbed


def test_runs_that_send_at_the_same_time_share_an_input(mirrored: MirroredStore) -> None:
    data = mirrored.publish("data")
    models = [mirrored.publish("model", stage=f"train-{number}", inputs=[data]) for number in range(3)]
    mirrored.sync_at_once(*map(str, models))
    assert list(mirrored.collection("data")["versions"]) == ["v0"]
    versions = mirrored.collection("model")["versions"].values()
    assert sorted(facts["metadata"]["nemotron_ref"] for facts in versions) == list(map(str, models))
    assert [mirrored.run(f"train-{number}")["used"] for number in range(3)] == [["data:v0"]] * 3
    assert mirrored.newest("model") == "model:v2"


@pytest.mark.parametrize(
    ("part", "told"), [("wandb-core", "wandb-core ended"), ("mirror.helper", "the helper process ended: exit code -9")]
)
def test_a_death_beside_the_sync_costs_one_version_until_the_next(
    part: str, told: str, doubled: MirroredStore, wandb_double: WandbServerProcess
) -> None:
    for name in ("data", "other"):
        doubled.publish(name)
    # Committed, and the client is not told.
    wandb_double.fault(operation="CommitArtifact", delay_s=600, after=True)
    said = doubled.sync_with_a_death(part, lambda: wait_for(lambda: "data" in committed(doubled)))
    assert told in said
    assert [str(record.ref) for record in pending(doubled.store, doubled.wandb)] == ["data:v0"]
    assert doubled.sync().failed == {}
    assert [list(doubled.collection(name)["versions"]) for name in ("data", "other")] == [["v0"], ["v0"]]


def committed(mirror: MirroredStore) -> list[str]:
    """The artifacts of which the server has a version."""
    return [name for name, collection in mirror.state()["collections"].items() if collection["versions"]]
