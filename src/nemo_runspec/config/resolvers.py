"""OmegaConf resolvers that recipe configs use on the worker: `${art:KEY[,FIELD]}`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nemo_runspec.errors import ConfigError, did_you_mean

DEFAULT_STORE = Path(".nemotron") / "artifacts"


def register_resolvers_from_config(
    config: DictConfig | Mapping[str, Any],
    artifacts_key: str = "run",
    *,
    store_root: str | Path | None = None,
) -> None:
    """Register `${art:KEY[,FIELD]}` for the artifact references under `config[artifacts_key]`.

    KEY names a reference `name[:version]`. FIELD is path (default: the directory with the artifact's files), name,
    type, version, digest, uri, iteration, or a field of the artifact's metadata, in its native type. The store is
    `store_root`, else `$NEMOTRON_STORE`, else .nemotron/artifacts. Replaces what an earlier call registered.
    """
    container = OmegaConf.to_container(config, resolve=False) if isinstance(config, DictConfig) else config
    section = container.get(artifacts_key) if isinstance(container, Mapping) else None
    references = {str(key): value for key, value in (section or {}).items() if isinstance(value, str)}
    root = Path(store_root or os.environ.get("NEMOTRON_STORE") or DEFAULT_STORE)

    def resolve(key: str, field: str = "path") -> Any:
        return resolve_artifact_field(references, str(key), str(field), root=root, section=artifacts_key)

    OmegaConf.register_resolver("art", resolve, replace=True)


def resolve_artifact_field(
    references: Mapping[str, str], key: str, field: str, *, root: Path, section: str = "run"
) -> Any:
    """Return one field of the artifact that `references[key]` names in the store at `root`.

    Raises:
        ConfigError: unknown key or field.
        ArtifactError: the store has no such artifact, or its files are not what was published.
    """
    from nemo_runspec.artifacts import ArtifactStore

    if key not in references:
        raise ConfigError(
            f"${{art:{key}}}: {section}.{key} is not set; have: {', '.join(references) or 'none'}."
            f"{did_you_mean(key, references)}"
        )
    store = ArtifactStore(root)
    ref = store.resolve(references[key])
    if field == "path":
        return str(store.materialize(ref))
    fields = {"name": ref.name, "type": ref.type, "version": ref.version, "digest": ref.digest, "uri": ref.uri}
    metadata = dict(ref.metadata)
    if "step" in metadata:
        fields["iteration"] = metadata["step"]
    fields = {**metadata, **fields}
    if field not in fields:
        allowed = ["path", *fields]
        raise ConfigError(
            f"${{art:{key},{field}}}: {ref.name}:{ref.version} has no field {field!r}; "
            f"allowed: {', '.join(allowed)}.{did_you_mean(field, allowed)}"
        )
    return fields[field]
