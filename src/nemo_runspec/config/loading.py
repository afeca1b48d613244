"""Find and load YAML configs with their `defaults:` chains."""

from __future__ import annotations

from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from nemo_runspec.errors import ConfigError, ConfigNotFound, did_you_mean

SUFFIXES = (".yaml", ".yml")


def find_config_file(name: str, config_dir: str | Path) -> Path:
    """`NAME` → `<config_dir>/NAME.yaml|.yml`; a value with `/` or a YAML suffix is a path.

    Raises:
        FileNotFoundError: naming what was tried and what there is.
    """
    folder = Path(config_dir)
    is_path = "/" in name or name.endswith(SUFFIXES)
    tried = [Path(name)] if is_path else [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    for path in tried:
        if path.is_file():
            return path
    have = sorted({path.stem for suffix in SUFFIXES for path in folder.glob(f"*{suffix}")})
    raise ConfigNotFound(
        f"config {name!r} not found; tried {', '.join(map(str, tried))}; have: {', '.join(have) or 'none'}."
        f"{did_you_mean(name, have)}"
    )


def load_config(path: str | Path) -> DictConfig:
    """The YAML file merged over the files that its `defaults:` name (str or list, relative to it, recursive).

    Raises:
        ValueError: bad YAML (file and line), not a mapping, or cyclic `defaults`.
        FileNotFoundError: a file of the chain does not exist.
    """
    return _load(Path(path).resolve(), ())


def _load(path: Path, chain: tuple[Path, ...]) -> DictConfig:
    if path in chain:
        names = " → ".join(item.name for item in (*chain[chain.index(path) :], path))
        raise ConfigError(f"{path}: cyclic defaults: {names}; remove one of them")
    config = _read_yaml(path)
    defaults = config.pop("defaults", None)
    merged = OmegaConf.create({})
    for name in [defaults] if isinstance(defaults, str) else list(defaults or []):
        if not isinstance(name, str):
            raise ConfigError(f"{path}: defaults: expected file names, got {name!r}")
        relative = name if "/" in name or name.endswith(SUFFIXES) else f"{name}.yaml"
        base = (path.parent / relative).resolve()
        if not base.is_file():
            raise ConfigNotFound(f"{path}: defaults names {name!r}, but there is no {base}")
        merged = _merge(merged, _load(base, (*chain, path)))
    return _merge(merged, config)


def _merge(base: DictConfig, over: DictConfig) -> DictConfig:
    merged = OmegaConf.merge(base, over)
    assert isinstance(merged, DictConfig)
    return merged


def _read_yaml(path: Path) -> DictConfig:
    if not path.is_file():
        raise ConfigNotFound(f"{path}: no such config file")
    try:
        config = OmegaConf.create(path.read_text(encoding="utf-8") or "{}")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: bad YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(config, DictConfig):
        raise ConfigError(f"{path}: expected a mapping at the top, got {type(config).__name__}")
    return config
