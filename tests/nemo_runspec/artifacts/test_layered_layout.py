import itertools
import random
import time

import pytest

from nemo_runspec.artifacts.layered_layout import Box, Layout, Point, assign_columns, lay_out

NANO3 = [
    ("alice", "pretrain-data"),
    ("milton", "pretrain-data"),
    ("pretrain-data", "pretrain-model"),
    ("alice", "sft-data"),
    ("pretrain-data", "sft-data"),
    ("sft-data", "sft-model"),
    ("pretrain-model", "sft-model"),
    ("pretrain-data", "rl-data"),
    ("rl-data", "rl-model"),
    ("sft-model", "rl-model"),
]


def sizes(edges: list[tuple[str, str]]) -> dict[str, tuple[float, float]]:
    """Nodes in the order of the edges, of different sizes."""
    names = list(dict.fromkeys(itertools.chain.from_iterable(edges)))
    return {name: (100.0 + 7 * (index % 5), 40.0 + 11 * (index % 3)) for index, name in enumerate(names)}


def random_edges(seed: int, *, num_nodes: int, max_inputs: int) -> list[tuple[str, str]]:
    """Each node is made from some that were there before."""
    chance = random.Random(seed)
    return [
        (str(chance.randrange(made)), str(made))
        for made in range(1, num_nodes)
        for _ in range(chance.randint(1, max_inputs))
    ]


def pieces(layout: Layout, *, straight: bool) -> set[tuple[Point, Point]]:
    """The curves between the columns, or the straight pieces over them."""
    return {
        piece for route in layout.routes for piece in list(itertools.pairwise(route.points))[1 if straight else 0 :: 2]
    }


def num_crossings(layout: Layout) -> int:
    return sum(
        one[0][0] == other[0][0] and (one[0][1] - other[0][1]) * (one[1][1] - other[1][1]) < 0
        for one, other in itertools.combinations(pieces(layout, straight=False), 2)
    )


def is_in(box: Box, point: Point) -> bool:
    return box.x <= point[0] <= box.x + box.width and box.y < point[1] < box.y + box.height


def overlap(one: Box, other: Box) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


def test_what_is_made_stands_right_of_what_it_is_made_from() -> None:
    layout = lay_out(sizes(NANO3), NANO3)
    assert all(layout.boxes[start].x + layout.boxes[start].width < layout.boxes[end].x for start, end in NANO3)


def test_the_nano3_chain_has_no_crossing() -> None:
    assert num_crossings(lay_out(sizes(NANO3), NANO3)) == 0


def test_a_source_stands_just_left_of_its_first_use() -> None:
    edges = [("a", "b"), ("b", "c"), ("late", "c")]
    assert assign_columns(["a", "b", "c", "late"], edges) == {"a": 0, "b": 1, "c": 2, "late": 1}


@pytest.mark.parametrize(
    ("seed", "num_nodes", "max_inputs"), [(0, 2, 1), (1, 30, 2), (2, 60, 3), (3, 60, 6), (4, 200, 2)]
)
def test_nothing_covers_anything(seed: int, num_nodes: int, max_inputs: int) -> None:
    edges = random_edges(seed, num_nodes=num_nodes, max_inputs=max_inputs)
    layout = lay_out(sizes(edges), edges)
    boxes = layout.boxes.values()
    assert not [pair for pair in itertools.combinations(boxes, 2) if overlap(*pair)]
    ends = [point for piece in pieces(layout, straight=True) for point in piece]
    assert not [point for point in ends for box in boxes if is_in(box, point)]
    assert all(0 <= box.x <= box.x + box.width <= layout.width for box in boxes)
    assert all(0 <= box.y <= box.y + box.height <= layout.height for box in boxes)


def test_each_edge_runs_from_its_start_to_its_end() -> None:
    edges = random_edges(5, num_nodes=40, max_inputs=3)
    layout = lay_out(sizes(edges), edges)
    assert {(route.start, route.end) for route in layout.routes} == set(edges)
    boxes = [(layout.boxes[route.start], layout.boxes[route.end], route.points) for route in layout.routes]
    assert all(points[0] == (start.x + start.width, start.y + start.height / 2) for start, _, points in boxes)
    assert all(points[-1] == (end.x, end.y + end.height / 2) for _, end, points in boxes)


def test_the_order_has_far_fewer_crossings_than_chance() -> None:
    edges = random_edges(6, num_nodes=60, max_inputs=2)
    # measured: 74, and 341 in the first order
    assert num_crossings(lay_out(sizes(edges), edges)) < 150


def test_a_graph_is_always_drawn_the_same() -> None:
    edges = random_edges(7, num_nodes=50, max_inputs=3)
    assert lay_out(sizes(edges), edges) == lay_out(sizes(edges), edges)


def test_one_node_is_a_layout() -> None:
    assert lay_out({"a": (10.0, 20.0)}, []).boxes == {"a": Box(x=0.0, y=0.0, width=10.0, height=20.0)}


def test_nothing_is_an_empty_layout() -> None:
    assert lay_out({}, []) == Layout(width=0.0, height=0.0, boxes={}, routes=())


def test_a_circle_ends_and_loses_one_edge() -> None:
    edges = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]
    layout = lay_out(sizes(edges), edges)
    assert len(layout.boxes) == 4
    assert [(route.start, route.end) for route in layout.routes] == [("a", "b"), ("b", "c"), ("c", "d")]


@pytest.mark.parametrize("edges", [random_edges(8, num_nodes=200, max_inputs=4), [("a", str(n)) for n in range(2000)]])
def test_many_nodes_are_laid_out_in_seconds(edges: list[tuple[str, str]]) -> None:
    started = time.monotonic()
    lay_out(sizes(edges), edges)
    assert time.monotonic() - started < 10  # measured: 0.4 s
