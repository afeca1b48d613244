from itertools import islice

import pytest

from nemotron.recipes.nano3.addition import HELD_OUT_ONE_IN, AdditionSettings, Sum, draw_sums, take_sums


def draw(number: int, *, held_out: bool = False, max_addend: int = 49, seed: int = 1) -> list[Sum]:
    return list(islice(draw_sums(max_addend, held_out=held_out, seed=seed), number))


def test_a_sum_asks_for_what_it_answers() -> None:
    each = Sum(left=12, right=30)
    assert (each.question, each.answer) == ("12+30?", "42")


@pytest.mark.parametrize("max_addend", [9, 10, 49])
def test_held_out_and_trained_sums_are_disjoint_and_all_sums_together(max_addend: int) -> None:
    every = 2 * (max_addend + 1) ** 2
    held_out, trained = (set(draw(every, held_out=held, max_addend=max_addend)) for held in (True, False))
    assert held_out
    assert held_out.isdisjoint(trained)
    assert len(held_out | trained) == (max_addend + 1) ** 2


def test_about_one_sum_in_ten_is_held_out() -> None:
    held_out = set(draw(5000, held_out=True))
    assert len(held_out) == pytest.approx(2500 / HELD_OUT_ONE_IN, rel=0.2)


def test_a_sum_is_held_out_whatever_the_seed_and_the_largest_addend() -> None:
    held_out = set(draw(5000, held_out=True, max_addend=20, seed=7))
    trained = set(draw(50000, max_addend=60, seed=8))
    assert held_out.isdisjoint(trained)


def test_every_sum_comes_once_before_one_comes_again() -> None:
    epoch = len(set(draw(100_000, max_addend=9)))
    sums = draw(2 * epoch, max_addend=9)
    assert len(set(sums[:epoch])) == len(set(sums[epoch:])) == epoch
    assert sums[:epoch] != sums[epoch:]


def test_the_order_depends_on_the_seed() -> None:
    assert draw(50, seed=1) == draw(50, seed=1) != draw(50, seed=2)


@pytest.mark.parametrize(("split", "number", "held_out"), [("train", 7, False), ("valid", 3, True)])
def test_a_split_gets_as_many_sums_as_it_is_to_have(split: str, number: int, held_out: bool) -> None:
    settings = AdditionSettings(max_addend=9, num_train=7, num_valid=3)
    sums = take_sums(settings, split=split, seed=1)
    assert [each.held_out for each in sums] == [held_out] * number
