from pathlib import Path
from typing import Any

import pytest
from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, lineage_text
from nemo_runspec.artifacts.descendants import find_descendants
from nemo_runspec.artifacts.lineage_graph import LineageGraph, build_graph
from nemo_runspec.mirror.pins import WandbPin, add_pin

WIKI = {"name": "wiki", "uri": "/data/wiki.txt", "size_bytes": 1200, "sha256": "sha256:" + "01" * 32}


def graph_of(store: ArtifactStore, ref: ArtifactRef) -> LineageGraph:
    return build_graph(store, ref, store.lineage(ref))


@pytest.fixture
def chain(publish: Publisher) -> ArtifactRef:
    """A model from a corpus of one file."""
    corpus = publish({"a": "1"}, name="corpus", stage="prep", metadata={"source_datasets": [WIKI], "total_tokens": 5})
    return publish(
        {"a": "2"}, name="base", type="ModelArtifact", stage="train", inputs=[corpus], metadata={"valid_loss": 3.25}
    )


def test_versions_are_nodes_with_what_is_known_of_them(store: ArtifactStore, chain: ArtifactRef) -> None:
    base, corpus = graph_of(store, chain).artifacts
    assert (base.id, base.type, base.digest) == ("base:v0", "ModelArtifact", chain.digest)
    assert (base.stage, base.run_id, base.key_metric, base.wandb) == ("train", "run-1", "valid_loss 3.250", None)
    assert (corpus.id, corpus.key_metric) == ("corpus:v0", "total_tokens 5")


def test_source_files_are_nodes_with_size_and_digest(store: ArtifactStore, chain: ArtifactRef) -> None:
    (node,) = graph_of(store, chain).sources
    assert node.document() == {
        "id": "/data/wiki.txt", "kind": "source", "name": "wiki", "uri": "/data/wiki.txt",
        "size_bytes": 1200, "digest": "sha256:" + "01" * 32,
    }  # fmt: skip


def test_edges_go_from_what_was_used_to_what_was_made(store: ArtifactStore, chain: ArtifactRef) -> None:
    edges = graph_of(store, chain).document()["edges"]
    assert edges == [{"from": "corpus:v0", "to": "base:v0"}, {"from": "/data/wiki.txt", "to": "corpus:v0"}]


def test_an_input_that_is_gone_is_marked(store: ArtifactStore, chain: ArtifactRef, tmp_path: Path) -> None:
    (tmp_path / "store" / "artifacts" / "corpus" / "versions" / "v0.json").unlink()
    _, corpus = graph_of(store, chain).artifacts
    assert (corpus.in_store, corpus.stage, corpus.type) == (False, None, "T")


def test_a_mirrored_version_has_its_name_on_wandb(store: ArtifactStore, chain: ArtifactRef) -> None:
    add_pin(store, chain, WandbPin(server="https://api.wandb.ai", qualified_name="me/flows/base:v3", digest="d"))
    assert [node.wandb for node in graph_of(store, chain).artifacts] == ["me/flows/base:v3", None]


def test_a_damaged_note_of_the_mirror_hides_no_lineage(store: ArtifactStore, chain: ArtifactRef) -> None:
    store.add_note("mirrors/wandb/base/v0", {"no": "pin"})
    assert [node.wandb for node in graph_of(store, chain).artifacts] == [None, None]


def test_a_file_that_two_used_is_one_node(store: ArtifactStore, publish: Publisher) -> None:
    parts = [publish({"a": name}, name=name, metadata={"source_datasets": [WIKI]}) for name in ("left", "right")]
    graph = graph_of(store, publish({"a": "3"}, name="top", inputs=parts))
    assert len(graph.sources) == 1
    assert [edge.made for edge in graph.edges if edge.used == "/data/wiki.txt"] == ["left:v0", "right:v0"]


def test_a_file_that_was_changed_between_is_two_nodes(store: ArtifactStore, publish: Publisher) -> None:
    changed = {**WIKI, "sha256": "blake3:" + "cd" * 32}
    left = publish({"a": "1"}, name="left", metadata={"source_datasets": [WIKI]})
    right = publish({"a": "2"}, name="right", metadata={"source_datasets": [changed]})
    graph = graph_of(store, publish({"a": "3"}, name="top", inputs=[left, right]))
    assert [node.id for node in graph.sources] == ["/data/wiki.txt", f"/data/wiki.txt@{changed['sha256']}"]


def test_a_file_called_like_a_version_is_not_that_version(store: ArtifactStore, publish: Publisher) -> None:
    ref = publish({"a": "1"}, metadata={"source_datasets": [{"uri": "data:v0", "name": "x"}]})
    graph = graph_of(store, ref)
    assert [(edge.used, edge.made) for edge in graph.edges] == [("data:v0@", "data:v0")]


@pytest.mark.parametrize(
    "found", [None, 7, "x", {"uri": "x"}, ["x", 7, None, []], [{}], [{"uri": None, "name": [1], "size_bytes": "9"}]]
)
def test_any_metadata_can_be_shown(store: ArtifactStore, publish: Publisher, found: Any) -> None:
    ref = publish({"a": "1"}, metadata={"source_datasets": found, "valid_loss": "low", "heldout_after": 1})
    assert lineage_text(store, ref).startswith("data:v0  T  (prepare, run-1)")
    assert graph_of(store, ref).artifacts[0].key_metric == ""


@pytest.mark.usefixtures("chain")
def test_what_was_made_is_a_graph_too(store: ArtifactStore) -> None:
    corpus = store.resolve("corpus")
    graph = build_graph(store, corpus, find_descendants(store, corpus), sources=False)
    assert [node.id for node in graph.artifacts] == ["corpus:v0", "base:v0"]
    assert (graph.sources, graph.ref) == ((), "corpus:v0")


def test_names_cannot_give_orders_to_a_terminal(store: ArtifactStore, publish: Publisher) -> None:
    ref = publish({"a": "1"}, metadata={"source_datasets": [{"name": "a\x1b[2J\n", "uri": "\u202ex"}]})
    assert lineage_text(store, ref).splitlines()[1:] == ["└── a�[2J�: �x"]
