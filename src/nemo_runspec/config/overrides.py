"""Command-line overrides `a.b.0.c=value`: typed as YAML, checked against the config they change.

`+key=value` adds a key that the config lacks, or gives one a value of another type.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nemo_runspec.errors import ConfigError

# What a profile and the tracker take is not in a recipe's YAML: these sections may be extended.
OPEN_SECTIONS = ("run.env", "run.wandb")
_RUN_KEY = re.compile(r"run\.[A-Za-z_]\w*")
_MISSING = object()


def apply_dotlist_overrides(cfg: DictConfig, dotlist: Sequence[str], *, strict: bool = True) -> DictConfig:
    """Return a copy of `cfg` with the overrides applied in order.

    With `strict`, a key that the config lacks is refused, except below `run.env` and `run.wandb`, and but for a text
    in `run.NAME`, which a slot of the script or the script itself may take. A value of another type than the config's
    is refused always.

    Raises:
        ValueError: an unknown key (with the nearest known one), a wrong type, or no `=`.
    """
    tree = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(tree, dict)
    for item in dotlist:
        _apply(tree, item, strict=strict)
    try:
        return OmegaConf.create(tree)
    except OmegaConfBaseException as error:
        raise ConfigError(f"overrides {' '.join(dotlist)!r}: {str(error).splitlines()[0]}") from error


def _apply(tree: dict[Any, Any], item: str, *, strict: bool) -> None:
    key, equals, text = item.partition("=")
    forced = key.startswith("+")
    key = re.sub(r"\[(-?\d+)\]", r".\1", key.lstrip("+")).strip()
    parts = key.split(".")
    if not equals or not all(parts):
        raise ConfigError(f"override {item!r}: expected key=value, as in train.train_iters=50")
    value = _parse_value(item, text)
    node: Any = tree
    for depth, part in enumerate(parts):
        where = ".".join(parts[:depth])
        last = depth == len(parts) - 1
        current = _child(node, part, item=item, where=where)
        if current is _MISSING and strict and not forced and not _is_open(key, value, tree):
            raise ConfigError(f"override {item!r}: unknown key {key!r}; {_have(node, where)}{_suggest(key, tree)}")
        if last:
            fitted = value if forced or current is _MISSING else _fit(value, current, text=text, item=item, key=key)
            node[_index(node, part)] = fitted
        elif current is _MISSING or (current is None and (forced or not strict)):
            node[part] = {}
        elif not isinstance(current, dict | list):
            path = ".".join(parts[: depth + 1])
            raise ConfigError(
                f"override {item!r}: {path} = {current!r} is a value, it has no {parts[depth + 1]!r}; give {path}=…"
            )
        node = node if last else node[_index(node, part)]


def _parse_value(item: str, text: str) -> Any:
    try:
        tree = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"override {item!r}: the value {text!r} is not valid YAML: {reason}; quote it") from error
    assert isinstance(tree, dict)
    value = tree["value"]
    # YAML 1.1 reads 18:00:00 as 64800, a number to the base 60.
    return text if isinstance(value, int | float) and ":" in text else value


def _child(node: Any, part: str, *, item: str, where: str) -> Any:
    if isinstance(node, dict):
        return node.get(_index(node, part), _MISSING)
    if not re.fullmatch(r"-?\d+", part):
        raise ConfigError(f"override {item!r}: {where} is a list; expected an index like {where}.0, got {part!r}")
    if not -len(node) <= int(part) < len(node):
        raise ConfigError(
            f"override {item!r}: {where} has {len(node)} item(s); index {part} is out of range; "
            f"to set the whole list give {where}=[…]"
        )
    return node[int(part)]


def _index(node: Any, part: str) -> Any:
    if isinstance(node, list):
        return int(part)
    return int(part) if part not in node and part.isdecimal() and int(part) in node else part


def _is_open(key: str, value: Any, tree: dict[Any, Any]) -> bool:
    if any(key.startswith(f"{section}.") or key == section for section in OPEN_SECTIONS):
        return True
    if not (_RUN_KEY.fullmatch(key) and isinstance(value, str)):
        return False
    known = tree.get("run")
    alike = difflib.get_close_matches(key.partition(".")[2], map(str, known or ()), n=1, cutoff=0.75)
    return not alike  # else it is one of these, misspelt


def _fit(value: Any, current: Any, *, text: str, item: str, key: str) -> Any:
    """The new value in the type of the current one."""
    if value is None or current is None or _is_deferred(value) or _is_deferred(current):
        return value
    if isinstance(current, dict) and isinstance(value, dict):
        return _fit_section(value, current, item=item, key=key)
    if isinstance(current, str) and not text.startswith(("[", "{")):
        return value if isinstance(value, str) else text
    if isinstance(current, bool) or isinstance(value, bool):
        fits = isinstance(current, bool) and isinstance(value, bool)
    elif isinstance(current, float) and isinstance(value, int):
        return float(value)
    elif isinstance(current, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    else:
        fits = type(current) is type(value)
    if not fits:
        raise ConfigError(
            f"override {item!r}: {key} is {_describe(current)}, got {_describe(value)}; "
            f"give {_describe(current, example=False)}, or +{key}=… to change its type"
        )
    return value


def _fit_section(value: dict[Any, Any], current: dict[Any, Any], *, item: str, key: str) -> dict[Any, Any]:
    fitted = dict(current)
    for name, each in value.items():
        if name not in current:
            raise ConfigError(
                f"override {item!r}: unknown key '{key}.{name}'; {_have(current, key)}{_suggest(f'{name}', current)}"
            )
        fitted[name] = _fit(each, current[name], text=str(each), item=item, key=f"{key}.{name}")
    return fitted


def _is_deferred(value: Any) -> bool:
    return isinstance(value, str) and ("${" in value or value == "???")


def _describe(value: Any, *, example: bool = True) -> str:
    names = {
        bool: "true or false",
        int: "an integer",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a section",
    }
    name = names.get(type(value), type(value).__name__)
    return f"{name} ({value!r})" if example and not isinstance(value, dict | list) else name


def _suggest(key: str, tree: dict[Any, Any]) -> str:
    known = list(_keys(tree))
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if not close:
        leaves = {path.rpartition(".")[2]: path for path in reversed(known)}
        close = [leaves[leaf] for leaf in difflib.get_close_matches(key.rpartition(".")[2], leaves, n=1, cutoff=0.8)]
    return f" Did you mean {close[0]!r}?" if close else ""


def _have(node: Any, where: str) -> str:
    names = ", ".join(map(str, node)) or "nothing"
    return f"have under {where or 'the top level'}: {names}."


def _keys(tree: Any, prefix: str = "") -> Iterator[str]:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in pairs:
        yield f"{prefix}{key}"
        if isinstance(value, dict | list):
            yield from _keys(value, f"{prefix}{key}.")
