from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.artifacts.descendants import descendants_text, find_descendants


def test_what_was_made_from_it_is_found_once_over_all_ways(publish: Publisher, store: ArtifactStore) -> None:
    data = publish({"a": "1"}, name="data")
    left, right = publish({"a": "2"}, name="left", inputs=[data]), publish({"a": "3"}, name="right", inputs=[data])
    publish({"a": "4"}, name="model", inputs=[left, right])
    publish({"a": "5"}, name="other")
    assert [(str(edge.input), str(edge.output)) for edge in find_descendants(store, data)] == [
        ("data:v0", "left:v0"),
        ("data:v0", "right:v0"),
        ("left:v0", "model:v0"),
        ("right:v0", "model:v0"),
    ]


def test_what_nothing_was_made_from_has_no_descendants(publish: Publisher, store: ArtifactStore) -> None:
    data, model = publish({"a": "1"}), publish({"a": "2"}, name="model")
    assert find_descendants(store, data) == find_descendants(store, model) == []
    assert descendants_text(store, data) == "data:v0  T  (prepare, run-1)"


def test_descendants_are_drawn_as_a_tree(publish: Publisher, store: ArtifactStore) -> None:
    data = publish({"a": "1"}, name="data")
    left = publish({"a": "2"}, name="left", inputs=[data])
    right = publish({"a": "3"}, name="right", inputs=[data])
    model = publish({"a": "4"}, name="model", inputs=[left, right])
    publish({"a": "5"}, name="quant", inputs=[model])
    assert descendants_text(store, data).splitlines() == [
        "data:v0  T  (prepare, run-1)",
        "├── left:v0  T  (prepare, run-1)",
        "│   └── model:v0  T  (prepare, run-1)",
        "│       └── quant:v0  T  (prepare, run-1)",
        "└── right:v0  T  (prepare, run-1)",
        "    └── model:v0  T  (prepare, run-1)  (see above)",
    ]
