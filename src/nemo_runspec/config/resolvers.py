"""OmegaConf resolvers that recipe configs use on the worker: `${art:KEY[,FIELD]}`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from nemo_runspec.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from nemo_runspec.artifacts import ArtifactRef

DEFAULT_STORE = Path(".nemotron") / "artifacts"


def register_resolvers_from_config(
    config: DictConfig | Mapping[str, Any],
    artifacts_key: str = "run",
    *,
    store_root: str | Path | None = None,
) -> None:
    """Register `${art:KEY[,FIELD]}` for the artifact references under `config[artifacts_key]`.

    KEY names a reference `name[:version]`. FIELD is path (default: the directory with the artifact's files), name,
    type, version, digest, uri, iteration, metadata.FIELD, or FIELD of the metadata where it is none of these, in its
    native type; with dots, what is inside of it. The store is `store_root`, else `$NEMOTRON_STORE`, else
    .nemotron/artifacts. Replaces what an earlier call registered.
    """
    register_slots(config, artifacts_key, store_root=store_root)


def register_slots(
    config: DictConfig | Mapping[str, Any], artifacts_key: str = "run", *, store_root: str | Path | None = None
) -> ArtifactSlots:
    """As `register_resolvers_from_config`; what it returns knows afterwards which versions were meant."""
    found = config if isinstance(config, DictConfig) else OmegaConf.create(dict(config), flags={"allow_objects": True})
    section = found.get(artifacts_key)
    slots = ArtifactSlots(
        section if isinstance(section, DictConfig) else OmegaConf.create({}),
        root=store_root or os.environ.get("NEMOTRON_STORE") or DEFAULT_STORE,
        section=artifacts_key,
    )
    OmegaConf.register_resolver("art", lambda key, field="path": slots.field(str(key), str(field)), replace=True)
    return slots


class ArtifactSlots:
    """References by key, each resolved once, when it is first asked for; `versions` has those that were.

    Of several ranks one asks the store, and all get what it found.
    """

    def __init__(self, references: DictConfig, *, root: str | Path, section: str = "run") -> None:
        self.versions: dict[str, ArtifactRef] = {}
        self._references = references
        self._root = root
        self._section = section

    def field(self, key: str, name: str) -> Any:
        """One field of the artifact that the reference `key` means.

        Raises:
            ConfigError: unknown key or field, or the reference is not text.
            ArtifactError: the store has no such artifact, or its files are not what was published.
        """
        from nemo_runspec.artifacts.slots import materialize_together

        if key not in self.versions:
            self.versions[key] = self._resolve(key)
        ref = self.versions[key]
        return (
            str(materialize_together(self._root, ref))
            if name == "path"
            else find_field(ref, name, where=f"${{art:{key},{name}}}")
        )

    def _resolve(self, key: str) -> ArtifactRef:
        from nemo_runspec.artifacts.slots import read_slot, resolve_together

        given = self._references.get(key)
        value = OmegaConf.to_container(given) if OmegaConf.is_config(given) else given
        reference = read_slot(value, where=f"${{art:{key}}}: {self._section}.{key}")
        if reference is None:
            known = [str(name) for name, value in self._references.items_ex(resolve=False) if isinstance(value, str)]
            raise ConfigError(
                f"${{art:{key}}}: {self._section}.{key} is not set; have: {', '.join(known) or 'none'}."
                f"{did_you_mean(key, known)}"
            )
        return resolve_together(self._root, reference)


def find_field(ref: ArtifactRef, name: str, *, where: str) -> Any:
    """A field of the artifact: one of its own, or one of its metadata; `where` says who asks.

    Raises:
        ConfigError: there is no such field.
    """
    own: dict[str, Any] = {part: getattr(ref, part) for part in ("name", "type", "version", "digest", "uri")}
    iteration = ref.metadata.get("step", ref.metadata.get("iteration"))
    if iteration is not None:
        own["iteration"] = iteration
    if name in own:
        return own[name]
    if name == "metadata":
        return ref.metadata
    inside = name.removeprefix("metadata.")
    nested = ref.metadata.get("metadata")
    for place in (ref.metadata, nested if isinstance(nested, Mapping) else {}):
        found, value = _look_up(place, inside)
        if found:
            return value
    allowed = ["path", *own, *(key for key in ref.metadata if key not in own)]
    raise ConfigError(
        f"{where}: {ref} has no field {name!r}; allowed: {', '.join(allowed)}.{did_you_mean(inside, allowed)}"
    )


def _look_up(value: Any, name: str) -> tuple[bool, Any]:
    """Whether there is such a field, and its value; a name with dots is a field itself or one of what is inside."""
    if isinstance(value, Mapping) and name in value:
        return True, value[name]
    first, dot, rest = name.partition(".")
    if isinstance(value, Mapping) and first in value:
        inner = value[first]
    elif isinstance(value, Sequence) and not isinstance(value, str) and first.isdecimal() and int(first) < len(value):
        inner = value[int(first)]
    else:
        return False, None
    return _look_up(inner, rest) if dot else (True, inner)
