"""Find and load a recipe's YAML config with its `defaults` chain. Does not resolve interpolations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nemo_runspec.cli_context import GlobalContext
from nemo_runspec.config.overrides import apply_dotlist_overrides
from nemo_runspec.errors import ConfigError, ConfigNotFound, did_you_mean

SUFFIXES = (".yaml", ".yml")


def parse_config(ctx: GlobalContext, config_dir: str | Path, default_config: str = "default") -> DictConfig:
    """Return the config that the command line asks for: `-c NAME` or the default, then its overrides.

    Raises:
        FileNotFoundError: no such config; the message names those there are.
        ValueError: bad YAML, cyclic defaults, or an override that does not fit the config.
    """
    path = find_config_file(ctx.config or default_config, config_dir)
    return apply_dotlist_overrides(load_config(path), ctx.dotlist)


def find_config_file(name: str, config_dir: str | Path) -> Path:
    """Return `<config_dir>/<name>.yaml|.yml`; a name with `/` or a YAML suffix is a path of its own.

    Raises:
        FileNotFoundError: neither is there; the message says what was tried and what there is.
    """
    folder = Path(config_dir)
    if "/" in name or name.endswith(SUFFIXES):
        given = Path(name).expanduser()
        tried = [given] if given.is_absolute() else [given, folder / given]
        if not name.endswith(SUFFIXES):
            tried = [path.with_name(path.name + suffix) for path in tried for suffix in SUFFIXES]
    else:
        tried = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    for path in tried:
        if path.is_file():
            return path.resolve()
    kind = "a directory, no file" if any(path.is_dir() for path in tried) else "no such file"
    raise ConfigNotFound(f"config {name!r}: {kind}; tried: {', '.join(map(str, tried))}; {_have(name, folder)}")


def load_config(path: str | Path) -> DictConfig:
    """Return the file's config merged over those that its `defaults` names, first to last.

    Raises:
        FileNotFoundError: the file, or one its defaults name, is missing.
        ValueError: bad YAML (with file and line), not a mapping, or cyclic defaults (with the chain).
    """
    layers = load_layers(path)
    try:
        merged = OmegaConf.merge(*(config for _, config in layers))
    except (OmegaConfBaseException, TypeError) as error:  # TypeError: a list over a section
        raise ConfigError(
            f"{layers[-1][0]}: does not merge over its defaults: {_first_line(error)}; give each key one kind"
        ) from error
    assert isinstance(merged, DictConfig)
    return merged


def load_layers(path: str | Path) -> list[tuple[Path, DictConfig]]:
    """The file and those that its `defaults` name, each as it is, in the order in which they are merged.

    Raises:
        FileNotFoundError, ValueError: as `load_config`.
    """
    return _load_layers(Path(path).resolve(), ())


def _load_layers(path: Path, chain: tuple[Path, ...]) -> list[tuple[Path, DictConfig]]:
    if path in chain:
        names = " → ".join(each.name for each in (*chain[chain.index(path) :], path))
        raise ConfigError(f"{chain[0]}: cyclic defaults: {names}; remove one of these `defaults:`")
    config = _read(path)
    layers = [_load_layers(parent, (*chain, path)) for parent in _parents(config.pop("defaults", None), path)]
    return [*(layer for parent in layers for layer in parent), (path, config)]


def _read(path: Path) -> DictConfig:
    if not path.is_file():
        raise ConfigNotFound(f"{path}: no such config file; {_have(path.stem, path.parent)}")
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"))
        if not isinstance(root, yaml.MappingNode | None):
            kind = "a list" if isinstance(root, yaml.SequenceNode) else f"{root.value!r}"
            raise ConfigError(f"{path}: the top level is {kind}; expected `key: value` lines")
        config = OmegaConf.load(path)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: bad YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: bad YAML: {_first_line(error)}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"{path}: bad interpolation: {_first_line(error)}; write ${{KEY}} or ${{RESOLVER:…}}, and \\${{ for text"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: {_first_line(error)}; make it a file you can read") from error
    assert isinstance(config, DictConfig)
    return config


def _parents(defaults: object, path: Path) -> list[Path]:
    if defaults is None:
        return []
    names = [defaults] if isinstance(defaults, str) else defaults
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: defaults = {defaults!r}; expected a config's name or a list of names")
    return [_parent(name, path) for name in names]


def _parent(name: str, path: Path) -> Path:
    base = path.parent / name
    tried = [base] if name.endswith(SUFFIXES) else [base.with_name(base.name + suffix) for suffix in SUFFIXES]
    for candidate in tried:
        if candidate.is_file():
            return candidate.resolve()
    looked = ", ".join(map(str, tried))
    raise ConfigNotFound(f"{path}: defaults: {name!r}: no such file; tried: {looked}; {_have(name, base.parent)}")


def _have(name: str, folder: Path) -> str:
    files = folder.iterdir() if folder.is_dir() else ()
    names = sorted({file.stem for file in files if file.suffix in SUFFIXES})
    return f"have: {', '.join(names) or 'none'}.{did_you_mean(Path(name).stem, names)}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
