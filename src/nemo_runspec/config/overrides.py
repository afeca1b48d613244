"""Dotlist overrides: `train.train_iters=50`, checked against the config they change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf

from nemo_runspec.errors import ConfigError, did_you_mean

# Sections in which a new key is no mistake: artifact slots and environment, whose keys are the user's own.
OPEN_SECTIONS = frozenset({"run", "wandb"})


def apply_dotlist_overrides(config: DictConfig, dotlist: Iterable[str], *, strict: bool = True) -> DictConfig:
    """A copy of the config with each `key=value` set; list items by index, as in `sources.0.path=x`.

    Raises:
        ConfigError: no `=`, a key that the config does not have, or text where it has a number.
    """
    changed = OmegaConf.create(config)
    for item in dotlist:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {item!r}: expected key=value, as in train.train_iters=50")
        value = _parse_value(item, text)
        if strict and key.split(".")[0] not in OPEN_SECTIONS:
            _check_key(changed, key, item)
            _check_type(OmegaConf.select(changed, key, throw_on_missing=False), value, item)
        OmegaConf.update(changed, key, value, merge=False, force_add=True)
    return changed


def _parse_value(item: str, text: str) -> Any:
    if "${" in text:
        return text
    try:
        value = OmegaConf.select(OmegaConf.create(f"value: {text}"), "value")
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"override {item!r}: its value is not YAML; quote it") from error
    return value


def _check_key(config: DictConfig, key: str, item: str) -> None:
    node: Any = config
    parts = key.split(".")
    for position, part in enumerate(parts):
        known = _keys(node)
        if part not in known:
            flat = list(_flatten(config))
            hint = did_you_mean(key, flat) or did_you_mean(part, known)
            parent = ".".join(parts[:position]) or "the top level"
            raise ConfigError(f"override {item!r}: unknown key {key!r}; have under {parent}: {', '.join(known)}.{hint}")
        node = OmegaConf.select(config, ".".join(parts[: position + 1])) if position + 1 < len(parts) else None


def _keys(node: Any) -> list[str]:
    if isinstance(node, DictConfig):
        return [str(key) for key in node]
    return [str(i) for i in range(len(node))] if isinstance(node, ListConfig) else []


def _flatten(node: Any, prefix: str = "") -> Iterable[str]:
    for key in _keys(node):
        child = node._get_node(int(key) if isinstance(node, ListConfig) else key)
        yield prefix + key
        yield from _flatten(child, f"{prefix}{key}.")


def _check_type(old: Any, new: Any, item: str) -> None:
    is_number = isinstance(old, int | float) and not isinstance(old, bool)
    if is_number and (isinstance(new, bool) or not isinstance(new, int | float | None)):
        if isinstance(new, str) and "${" in new:
            return
        raise ConfigError(f"override {item!r}: the config has the number {old!r} here, got {new!r}; give a number")
