"""The profiles there are, for help, completion and `env list`; fast, so it imports neither Prefect nor omegaconf.

It says what the tables and blocks hold, unchecked: `${oc.env:NAME}` stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nemo_runspec.env_file import FILE_NAME, find_env_file, load_env_file, profile_layers, profile_tables
from nemo_runspec.errors import ConfigError, RequirementError, RunspecError
from nemotron.blocks.prefect_api import ask_prefect, prefect_api_url

BLOCK_TYPE = "nemotron-env-profile"
"""`EnvProfile`'s slug, which importing it with Prefect would tell."""
_MAX_BLOCKS = 200
"""Prefect 3.8.8: PREFECT_API_DEFAULT_LIMIT, the most that one answer holds."""
_SHOWN = (
    *("host", "account", "partition", "run_partition", "batch_partition", "qos", "nodes", "gpus_per_node"),
    *("nproc_per_node", "time", "container_image"),
)


@dataclass(frozen=True, kw_only=True)
class ProfileRow:
    """One profile; `shadowed` when a block of the same name is used instead."""

    name: str
    origin: str
    executor: str
    summary: str
    shadowed: bool = False


@dataclass(frozen=True, kw_only=True)
class ProfileList:
    """All profiles, blocks first, and what could not be asked or read."""

    rows: tuple[ProfileRow, ...]
    notes: tuple[str, ...] = ()


def list_profiles(project: Path | None = None) -> ProfileList:
    """The profiles in blocks and in env.toml, that of `project` if it has one; whatever fails becomes a note."""
    notes: list[str] = []
    blocks: list[ProfileRow] = []
    tables: list[ProfileRow] = []
    if url := prefect_api_url():
        try:
            blocks = _block_rows(url)
        except RequirementError as error:
            notes.append(f"{error}; its profiles are not listed")
        if len(blocks) >= _MAX_BLOCKS:
            notes.append(f"Prefect API {url}: only the first {_MAX_BLOCKS} blocks are listed")
    try:
        tables = _table_rows(project)
    except (RunspecError, OSError) as error:
        notes.append(str(error))
    names = {row.name for row in blocks}
    return ProfileList(
        rows=(*blocks, *(replace(row, shadowed=row.name in names) for row in tables)), notes=tuple(notes)
    )


def _table_rows(project: Path | None) -> list[ProfileRow]:
    own = project / FILE_NAME if project and "NEMOTRON_ENV_FILE" not in os.environ else None
    path = find_env_file(own if own and own.is_file() else None)
    if path is None:
        return []
    tables = load_env_file(path)
    return [_table_row(tables, name, path) for name in profile_tables(tables)]


def _table_row(tables: Mapping[str, Any], name: str, path: Path) -> ProfileRow:
    origin = f"{FILE_NAME} ({path})"
    try:
        layers = profile_layers(tables, name, path)
    except ConfigError as error:
        said = str(error).removeprefix(f"{path}: ")
        return ProfileRow(name=name, origin=origin, executor="", summary=f"unusable: {said}")
    return _row(name, origin, {key: value for layer in layers for key, value in layer.items()})


def _block_rows(url: str) -> list[ProfileRow]:
    question = {"block_types": {"slug": {"any_": [BLOCK_TYPE]}}, "include_secrets": False, "limit": _MAX_BLOCKS}
    documents = ask_prefect("block_documents/filter", question, url=url)
    if not isinstance(documents, list):
        raise RequirementError(f"Prefect API {url} does not answer as one; it should end in /api")
    return sorted((_block_row(document, url) for document in documents), key=lambda row: row.name)


def _block_row(document: Mapping[str, Any], url: str) -> ProfileRow:
    fields = document.get("data") or {}
    return _row(str(fields.get("profile_name") or document.get("name")), f"block on {url}", fields)


def _row(name: str, origin: str, fields: Mapping[str, Any]) -> ProfileRow:
    executor = str(fields.get("executor") or "local")
    shown = [f"{key}={fields[key]}" for key in _SHOWN if fields.get(key) is not None]
    return ProfileRow(
        name=name, origin=origin, executor=executor, summary="  ".join([executor, " ".join(shown)]).strip()
    )
