import pytest

from nemotron.recipes.nano3.shuffling import item_at


def epoch(number: int, *, num_items: int = 50, seed: int = 1) -> list[int]:
    return [item_at(number * num_items + i, num_items=num_items, seed=seed) for i in range(num_items)]


@pytest.mark.parametrize("number", [0, 1, 7])
@pytest.mark.parametrize("num_items", [1, 2, 50])
def test_each_epoch_reads_each_item_once(number: int, num_items: int) -> None:
    assert sorted(epoch(number, num_items=num_items)) == list(range(num_items))


def test_the_order_differs_from_epoch_to_epoch() -> None:
    assert len({tuple(epoch(number)) for number in range(5)}) == 5


def test_the_order_depends_on_the_seed() -> None:
    assert epoch(0, seed=1) == epoch(0, seed=1) != epoch(0, seed=2)


def test_an_item_is_the_same_whatever_was_read_before() -> None:
    wanted = epoch(3)[4]
    _ = [epoch(number, seed=seed) for number in range(5) for seed in range(3)]
    assert item_at(3 * 50 + 4, num_items=50, seed=1) == wanted
