from pathlib import Path

import pytest
from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, lineage_text
from nemo_runspec.errors import ArtifactNotFound

SOURCES = [
    {"name": "wiki", "uri": "/data/wiki.txt", "size_bytes": 1200, "sha256": "sha256:0123456789abcdef"},
    {"name": "web", "uri": "https://example.org/web"},
]


def edges(store: ArtifactStore, ref: ArtifactRef) -> list[str]:
    return [f"{edge.output} < {edge.input}" for edge in store.lineage(ref)]


def lose(store: ArtifactStore, ref: ArtifactRef) -> None:
    (store.path / "artifacts" / ref.name / "versions" / f"{ref.version}.json").unlink()


@pytest.fixture
def chain(publish: Publisher) -> ArtifactRef:
    """A reinforced model from a tuned one and prompts, the tuned one from chats and a base model from a corpus."""
    corpus = publish({"a": "1"}, name="corpus", stage="prep", metadata={"source_datasets": SOURCES})
    base = publish({"a": "2"}, name="base", type="ModelArtifact", stage="pretrain", inputs=[corpus])
    chats = publish({"a": "3"}, name="chats", stage="prep", metadata={"source_datasets": SOURCES[:1]})
    tuned = publish({"a": "4"}, name="tuned", type="ModelArtifact", stage="sft", inputs=[chats, base])
    prompts = publish({"a": "5"}, name="prompts", stage="prep")
    return publish({"a": "6"}, name="final", type="ModelArtifact", stage="rl", inputs=[prompts, tuned])


def test_edges_go_from_the_version_to_its_roots_nearest_first(chain: ArtifactRef, store: ArtifactStore) -> None:
    assert edges(store, chain) == [
        "final:v0 < prompts:v0",
        "final:v0 < tuned:v0",
        "tuned:v0 < chats:v0",
        "tuned:v0 < base:v0",
        "base:v0 < corpus:v0",
    ]


def test_what_has_no_inputs_has_no_edges(publish: Publisher, store: ArtifactStore) -> None:
    assert edges(store, publish({"a": "x"})) == []


def test_the_text_goes_down_to_the_source_files(chain: ArtifactRef, store: ArtifactStore) -> None:
    assert lineage_text(store, chain) == "\n".join(
        [
            "final:v0  ModelArtifact  (rl, run-1)",
            "├── prompts:v0  T  (prep, run-1)",
            "└── tuned:v0  ModelArtifact  (sft, run-1)",
            "    ├── chats:v0  T  (prep, run-1)",
            "    │   └── wiki: /data/wiki.txt  (1200 bytes, sha256:0123456789ab)",
            "    └── base:v0  ModelArtifact  (pretrain, run-1)",
            "        └── corpus:v0  T  (prep, run-1)",
            "            ├── wiki: /data/wiki.txt  (1200 bytes, sha256:0123456789ab)",
            "            └── web: https://example.org/web",
        ]
    )


def test_what_two_need_has_each_edge_once(publish: Publisher, store: ArtifactStore) -> None:
    root = publish({"a": "1"}, name="root")
    middle = publish({"a": "2"}, name="middle", inputs=[root])
    sides = [publish({"a": name}, name=name, inputs=[middle]) for name in ("left", "right")]
    assert edges(store, publish({"a": "3"}, name="top", inputs=sides)) == [
        "top:v0 < left:v0",
        "top:v0 < right:v0",
        "left:v0 < middle:v0",
        "right:v0 < middle:v0",
        "middle:v0 < root:v0",
    ]


def test_what_two_need_is_drawn_out_once(publish: Publisher, store: ArtifactStore) -> None:
    root = publish({"a": "1"}, name="root")
    middle = publish({"a": "2"}, name="middle", inputs=[root])
    side = publish({"a": "3"}, name="side", inputs=[middle])
    assert lineage_text(store, publish({"a": "4"}, name="top", inputs=[side, middle])) == "\n".join(
        [
            "top:v0  T  (prepare, run-1)",
            "├── side:v0  T  (prepare, run-1)",
            "│   └── middle:v0  T  (prepare, run-1)",
            "│       └── root:v0  T  (prepare, run-1)",
            "└── middle:v0  T  (prepare, run-1)  (see above)",
        ]
    )


def test_an_input_in_two_slots_is_one_edge(publish: Publisher, store: ArtifactStore) -> None:
    needed = publish({"a": "1"}, name="needed")
    top = publish({"a": "2"}, name="top", inputs=[needed, needed])
    assert edges(store, top) == ["top:v0 < needed:v0"]


def test_two_versions_of_one_name_are_two_inputs(publish: Publisher, store: ArtifactStore) -> None:
    inputs = [publish({"a": text}, name="needed") for text in ("1", "2")]
    assert edges(store, publish({"a": "3"}, inputs=inputs)) == ["data:v0 < needed:v0", "data:v0 < needed:v1"]


def test_an_input_that_is_gone_is_a_root(chain: ArtifactRef, store: ArtifactStore) -> None:
    lose(store, store.resolve("base"))
    assert edges(store, chain)[-1] == "tuned:v0 < base:v0"


def test_an_input_that_is_gone_is_drawn_as_gone(chain: ArtifactRef, store: ArtifactStore) -> None:
    lose(store, store.resolve("base"))
    assert lineage_text(store, chain).splitlines()[-1] == "    └── base:v0  ModelArtifact  (not in this store)"


def test_edges_of_what_is_not_there_are_refused(chain: ArtifactRef, store: ArtifactStore) -> None:
    lose(store, chain)
    with pytest.raises(ArtifactNotFound, match="final:v0 is not in"):
        store.lineage(chain)


def test_the_text_of_what_is_not_there_says_so(publish: Publisher, tmp_path: Path) -> None:
    other = ArtifactStore(tmp_path / "other")
    assert lineage_text(other, publish({"a": "x"})) == "data:v0  T  (not in this store)"
