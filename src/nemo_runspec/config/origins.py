"""Where the values of a merged config come from, if more than one place gives one. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

Layer = tuple[str, Mapping[str, Any]]
"""What says it, and what it says."""


@dataclass(frozen=True, kw_only=True)
class Overridden:
    """The value of a key, who gives it, and the value that it takes the place of (None: there was none)."""

    key: str
    value: Any
    origin: str
    instead_of: Any
    whose: str | None


def find_overridden(merged: Mapping[str, Any], layers: Sequence[Layer], *, own: frozenset[str]) -> list[Overridden]:
    """The keys of `merged` that two layers give different values, or that one named in `own` gives at all.

    `layers` in the order in which they are merged.
    """
    values = dict(leaves_of(merged))
    flat = [(origin, dict(leaves_of(layer))) for origin, layer in layers]
    found = []
    for key, value in values.items():
        given = [(origin, leaves[key]) for origin, leaves in flat if key in leaves]
        winners = [origin for origin, each in given if each == value]
        if not winners:
            continue
        losers = [(origin, each) for origin, each in given if each != value]
        if losers or winners[-1] in own:
            whose, instead_of = losers[-1] if losers else (None, None)
            found.append(Overridden(key=key, value=value, origin=winners[-1], instead_of=instead_of, whose=whose))
    return found


def dotlist_layer(dotlist: Sequence[str], merged: Mapping[str, Any]) -> dict[str, Any]:
    """What the overrides gave: the leaves of `merged` at or below their keys, by dotted key."""
    keys = [re.sub(r"\[(-?\d+)\]", r".\1", item.partition("=")[0].lstrip("+")).strip() for item in dotlist]
    leaves = dict(leaves_of(merged))
    return {
        leaf: value for leaf, value in leaves.items() if any(leaf == key or leaf.startswith(f"{key}.") for key in keys)
    }


def leaf_keys(tree: DictConfig) -> list[str]:
    """The dotted keys of all values, those of lists left out."""
    container = OmegaConf.to_container(tree, resolve=False)
    return [key for key, _ in leaves_of(container) if not re.search(r"\.\d+(\.|$)", key)]


def leaves_of(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys of a config with their values; empty sections and lists count as values."""
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from leaves_of(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list) and tree:
        for position, value in enumerate(tree):
            yield from leaves_of(value, f"{prefix}.{position}")
    else:
        yield prefix, tree
