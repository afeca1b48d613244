"""Static metadata of a recipe script: the PEP 723 block's `[tool.runspec]`, read without running the script."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_runspec.errors import ConfigError, ConfigNotFound, did_you_mean

LAUNCHERS = ("torchrun", "ray", "direct")
# PEP 723, "Reference implementation": the block's grammar.
_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


@dataclass(frozen=True, kw_only=True)
class RunspecRun:
    """How the script is started."""

    launch: str = "torchrun"
    cmd: str | None = None
    workdir: str | None = None
    packager: str = "pattern"


@dataclass(frozen=True, kw_only=True)
class RunspecConfig:
    """Where the script's configs lie, relative to the script."""

    dir: str = "./config"
    default: str = "default"
    format: str = "omegaconf"


@dataclass(frozen=True, kw_only=True)
class RunspecResources:
    """What the script wants when no profile says otherwise."""

    nodes: int = 1
    gpus_per_node: int | str = 8


@dataclass(frozen=True, kw_only=True)
class RunspecArtifacts:
    """What goes in and out: input slot → artifact type, the output's name and type, config keys naming input files."""

    inputs: Mapping[str, str] = field(default_factory=dict)
    output_name: str | None = None
    output_type: str | None = None
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Runspec:
    """The whole `[tool.runspec]` table."""

    schema: str = "1"
    docs: str = ""
    name: str = ""
    image: str | None = None
    setup: str = ""
    run: RunspecRun = field(default_factory=RunspecRun)
    config: RunspecConfig = field(default_factory=RunspecConfig)
    resources: RunspecResources = field(default_factory=RunspecResources)
    artifacts: RunspecArtifacts = field(default_factory=RunspecArtifacts)
    env: Mapping[str, str] = field(default_factory=dict)
    script_path: Path

    @property
    def config_dir(self) -> Path:
        """Absolute directory of the script's configs."""
        return (self.script_path.parent / self.config.dir).resolve()


# key → types it may have; a table maps to its own keys.
_KEYS: dict[str, Any] = {
    "schema": (str,),
    "docs": (str,),
    "name": (str,),
    "image": (str,),
    "setup": (str,),
    "env": (dict,),
    "run": {"launch": (str,), "cmd": (str,), "workdir": (str,), "packager": (str,)},
    "config": {"dir": (str,), "default": (str,), "format": (str,)},
    "resources": {"nodes": (int,), "gpus_per_node": (int, str)},
    "artifacts": {"inputs": (dict,), "output": (dict,), "sources": (list,)},
}


def parse(script_path: str | Path) -> Runspec:
    """Return the runspec of a script.

    Raises:
        FileNotFoundError: there is no such script.
        ValueError: no PEP 723 block, no `[tool.runspec]`, bad TOML, unknown key, wrong type or unknown launcher.
    """
    path = Path(script_path).resolve()
    if not path.is_file():
        raise ConfigNotFound(f"{path}: no such script")
    table = _read_table(path)
    _check(table, _KEYS, origin=f"{path}: [tool.runspec]")
    _check_values(table, path)
    run = RunspecRun(**table.get("run", {}))
    if run.launch not in LAUNCHERS:
        raise ConfigError(
            f"{path}: [tool.runspec.run] launch = {run.launch!r}; allowed: {', '.join(LAUNCHERS)}."
            f"{did_you_mean(run.launch, LAUNCHERS)}"
        )
    scalars = {key: table[key] for key in ("schema", "docs", "name", "image", "setup", "env") if key in table}
    return Runspec(
        **scalars,
        run=run,
        config=RunspecConfig(**table.get("config", {})),
        resources=RunspecResources(**table.get("resources", {})),
        artifacts=_parse_artifacts(table.get("artifacts", {}), path),
        script_path=path,
    )


def _read_table(path: Path) -> dict[str, Any]:
    try:
        script = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    blocks = [m for m in _BLOCK.finditer(script) if m["type"] == "script"]
    if len(blocks) != 1:
        raise ConfigError(f"{path}: expected one PEP 723 block '# /// script', found {len(blocks)}")
    text = "".join(line[2:] if line.startswith("# ") else line[1:] for line in blocks[0]["content"].splitlines(True))
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: bad TOML in the '# /// script' block: {error}") from error
    table = document.get("tool", {}).get("runspec")
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: the '# /// script' block has no [tool.runspec] table")
    return table


def _check(table: Mapping[str, Any], allowed: Mapping[str, Any], *, origin: str) -> None:
    for key, value in table.items():
        if key not in allowed:
            raise ConfigError(
                f"{origin}: unknown key {key!r}; allowed: {', '.join(allowed)}.{did_you_mean(key, allowed)}"
            )
        expected = allowed[key]
        types = (dict,) if isinstance(expected, dict) else expected
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            names = " or ".join(t.__name__ for t in types)
            raise ConfigError(f"{origin}: {key} = {value!r} is a {type(value).__name__}; expected {names}")
        if isinstance(expected, dict):
            _check(value, expected, origin=f"{origin[:-1]}.{key}]")


def _check_values(table: Mapping[str, Any], path: Path) -> None:
    origin = f"{path}: [tool.runspec"
    resources, artifacts = table.get("resources", {}), table.get("artifacts", {})
    nodes, gpus = resources.get("nodes", 1), resources.get("gpus_per_node", 0)
    if table.get("schema", "1") != "1":
        raise ConfigError(f"{origin}] schema = {table['schema']!r}; allowed: '1'")
    if nodes < 1:
        raise ConfigError(f"{origin}.resources] nodes = {nodes}; expected 1 or more")
    if (isinstance(gpus, str) and gpus != "gpu") or (isinstance(gpus, int) and gpus < 0):
        raise ConfigError(f"{origin}.resources] gpus_per_node = {gpus!r}; expected 0 or more, or 'gpu'")
    texts = {
        "env": table.get("env", {}).values(),
        "artifacts.inputs": artifacts.get("inputs", {}).values(),
        "artifacts.sources": artifacts.get("sources", []),
    }
    for key, values in texts.items():
        for value in values:
            if not isinstance(value, str):
                raise ConfigError(f"{origin}] {key}: {value!r} is a {type(value).__name__}; expected str")


def _parse_artifacts(table: Mapping[str, Any], path: Path) -> RunspecArtifacts:
    output = table.get("output", {})
    _check(output, {"name": (str,), "type": (str,)}, origin=f"{path}: [tool.runspec.artifacts.output]")
    return RunspecArtifacts(
        inputs=table.get("inputs", {}),
        output_name=output.get("name"),
        output_type=output.get("type"),
        sources=tuple(table.get("sources", ())),
    )
