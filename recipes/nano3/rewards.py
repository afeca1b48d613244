"""Verifiable rewards: a named function from (answer given, answer wanted) to a number in [0, 1]."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType

from nemo_runspec.errors import ConfigError, did_you_mean

RewardFunction = Callable[[str, str], float]

_NUMBER = re.compile(r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?")


def exact_match(given: str, wanted: str) -> float:
    """1.0 where both texts are equal but for surrounding white space."""
    return float(given.strip() == wanted.strip())


def number_match(given: str, wanted: str) -> float:
    """1.0 where the last number in `given` equals the last one in `wanted`; thousands commas do not count."""
    found, target = _last_number(given), _last_number(wanted)
    return float(found is not None and found == target)


REWARDS: Mapping[str, RewardFunction] = MappingProxyType({"exact_match": exact_match, "number_match": number_match})


def find_reward(name: str, *, origin: str) -> RewardFunction:
    """The reward function of that name.

    Raises:
        ConfigError: no such reward; `origin` says where the name was read.
    """
    if name not in REWARDS:
        raise ConfigError(
            f"{origin}: reward {name!r} not found; have: {', '.join(REWARDS)}.{did_you_mean(name, REWARDS)}"
        )
    return REWARDS[name]


def _last_number(text: str) -> Decimal | None:
    numbers = _NUMBER.findall(text)
    return Decimal(numbers[-1].replace(",", "")) if numbers else None  # a float would round long numbers
