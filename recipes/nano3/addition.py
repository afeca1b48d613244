"""Sums as questions: a task whose answers can be checked, and which a tiny model learns in minutes.

A sum is held out by its addends alone, so that no data set made with the same `max_addend` ever trains on one.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from pydantic import Field

from nemotron.recipes.nano3.settings import Settings

HELD_OUT_ONE_IN = 10


class AdditionSettings(Settings):
    """Sums of two addends from 0 to `max_addend`; how many questions a split gets."""

    max_addend: int = Field(ge=9)
    num_train: int = Field(ge=1)
    num_valid: int = Field(default=0, ge=0)


@dataclass(frozen=True, kw_only=True)
class Sum:
    """`left` + `right`."""

    left: int
    right: int

    @property
    def question(self) -> str:
        """As a user asks it."""
        return f"{self.left}+{self.right}?"

    @property
    def answer(self) -> str:
        """The number alone."""
        return str(self.left + self.right)

    @property
    def held_out(self) -> bool:
        """Whether no model may be trained on it."""
        return zlib.crc32(f"{self.left}+{self.right}".encode()) % HELD_OUT_ONE_IN == 0


def draw_sums(max_addend: int, *, held_out: bool, seed: int) -> Iterator[Sum]:
    """Sums without end, all held out or none: each once in a random order, then again in another."""
    addends = range(max_addend + 1)
    every = [Sum(left=left, right=right) for left in addends for right in addends]
    kept = [each for each in every if each.held_out == held_out]
    shuffler = random.Random(seed)
    while True:
        shuffler.shuffle(kept)
        yield from kept


def take_sums(settings: AdditionSettings, *, split: str, seed: int) -> list[Sum]:
    """As many sums as the split is to have; those of `valid` are held out."""
    wanted = settings.num_train if split == "train" else settings.num_valid
    return list(islice(draw_sums(settings.max_addend, held_out=split == "valid", seed=seed), wanted))
