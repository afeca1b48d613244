"""A pipeline whose stages are sent as they end leaves the same on W&B as one that is sent afterwards."""

from typing import Any

import pytest
from mirrored_store import CHAIN, MirroredStore, Server, new_project


def lineage(tmp_path_factory: pytest.TempPathFactory, server: Server, *, online: bool) -> MirroredStore:
    mirror = MirroredStore(folder=tmp_path_factory.mktemp("chain"), server=server, project=new_project())
    mirror.publish_chain(after_each=mirror.sync if online else lambda _: None)
    mirror.sync()
    return mirror


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory, wandb_any: Server) -> dict[str, Any]:
    return lineage(tmp_path_factory, wandb_any, online=True).graph()


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory, wandb_any: Server) -> dict[str, Any]:
    return lineage(tmp_path_factory, wandb_any, online=False).graph()


def test_the_graphs_are_equal(online: dict[str, Any], offline: dict[str, Any]) -> None:
    assert online == offline


def test_each_run_used_what_its_version_was_made_from_and_logged_that(offline: dict[str, Any]) -> None:
    edges = {name: (run["used"], run["logged"]) for name, run in offline["runs"].items()}
    assert edges == {
        f"run-1-make-{name}": (sorted(f"{one}:v0" for one in needed), [f"{name}:v0"]) for name, needed, _ in CHAIN
    }


def test_each_artifact_has_one_version_with_the_aliases_of_the_store(offline: dict[str, Any]) -> None:
    assert offline["collections"] == {
        name: {
            "type": "DataArtifact",
            "aliases": {"latest": "v0", f"{name}-of-run-1": "v0"},
            "versions": {"v0": f"{name}:v0"},
        }
        for name, _, _ in CHAIN
    }
