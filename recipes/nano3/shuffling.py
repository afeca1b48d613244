"""Which items a training step sees: a new order each epoch, known from the step alone."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=4)
def _order(num_items: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(num_items)


def item_at(number: int, *, num_items: int, seed: int) -> int:
    """The item that is read as the `number`-th of the run, from 0; each epoch reads each item once."""
    epoch, position = divmod(number, num_items)
    return int(_order(num_items, seed, epoch)[position])
