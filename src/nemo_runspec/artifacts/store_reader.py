"""Reading an artifact store: which versions there are, what they are called and what is known of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from nemo_runspec.artifacts.backend import manifest_key
from nemo_runspec.artifacts.hashing import digest_bytes
from nemo_runspec.artifacts.lineage import LineageEdge, walk_lineage
from nemo_runspec.artifacts.made_index import index_key, parse_index
from nemo_runspec.artifacts.manifest import NEXT_STEP, Manifest
from nemo_runspec.artifacts.numbered import list_numbers, newest_key
from nemo_runspec.artifacts.opening import open_backend
from nemo_runspec.artifacts.refs import (
    FOREIGN_PREFIX,
    LATEST,
    ArtifactRef,
    VersionRecord,
    check_name,
    parse_ref,
    type_fits,
)
from nemo_runspec.artifacts.store_faults import store_errors
from nemo_runspec.artifacts.store_format import load_algorithm
from nemo_runspec.errors import ArtifactCorrupted, ArtifactError, ArtifactNotFound, did_you_mean

_logger = logging.getLogger(__name__)


class StoreReader:
    """What can be read of the store at `root`, a directory or a URL; changes nothing there.

    Raises:
        StoreError: `root` cannot be read, or is of an unknown format. Every method may raise it.
    """

    def __init__(self, root: str | Path) -> None:
        self.backend = open_backend(root)
        self.exists()

    @property
    def location(self) -> str:
        """Its absolute path or URL, which opens it elsewhere."""
        return self.backend.location

    @property
    def path(self) -> Path | None:
        """Its directory; None if it is at a URL."""
        return self.backend.path

    def exists(self) -> bool:
        """Whether anybody has created the store; refuses one of another format."""
        with store_errors(self.backend, "opening it"):
            return load_algorithm(self.backend) is not None

    def resolve(self, reference: str, expected_type: str | None = None) -> ArtifactRef:
        """The exact version that `name[:vN|:alias|:latest][@digest]` means now.

        Raises:
            ArtifactNotFound: no such name, version or alias; says which there are.
            ArtifactCorrupted: it has another digest than the one asked for.
            ArtifactError: the text is malformed or means one of W&B's, or the artifact is not an `expected_type`.
        """
        requested = parse_ref(reference)
        if requested.is_foreign:
            raise ArtifactError(
                f"{reference} is an artifact of a W&B server, which nemotron takes into the store when it runs a stage "
                f"on it; name it there: {FOREIGN_PREFIX}ENTITY.PROJECT.{requested.name}"
            )
        versions = self.version_names(requested.name)
        if not versions:
            names = self.names()
            hint = did_you_mean(requested.name, names)
            raise ArtifactNotFound(
                f"no artifact {requested.name!r} in {self.location}; have: {_listed(names)}.{hint or ' '}"
                f"{'' if hint else 'Run the stage that makes it, or set NEMOTRON_STORE.'}"
            )
        version = versions[-1] if requested.selector == LATEST else requested.selector
        if version not in versions:
            version = self._aliased(requested.name, version, versions)
        ref = self.read_record(requested.name, version).ref
        requested.check_digest(ref)
        if expected_type is not None and not type_fits(ref.type, expected_type):
            raise ArtifactError(
                f"{reference}: {ref} is a {ref.type}, expected {expected_type}; "
                f"of that type: {_listed(self._names_of_type(expected_type))}"
            )
        return ref

    def _aliased(self, name: str, alias: str, versions: list[str]) -> str:
        meaning = self._read_alias(name, alias)
        if meaning is not None:
            return meaning
        aliases = self._alias_names(name)
        newest = versions[-1] if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"
        raise ArtifactNotFound(
            f"artifact {name!r} has no version or alias {alias!r} in {self.location}; have: {newest}, "
            f"{_listed([LATEST, *aliases])}.{did_you_mean(alias, [LATEST, *aliases, *versions])}"
        )

    def aliases(self, name: str) -> dict[str, str]:
        """What each alias of `name` means now, as alias → version, sorted."""
        meanings = {alias: self._read_alias(name, alias) for alias in self._alias_names(name)}
        return {alias: version for alias, version in meanings.items() if version is not None}

    def _alias_names(self, name: str) -> list[str]:
        check_name(name)
        with store_errors(self.backend, "reading aliases"):
            return sorted(self.backend.list_names(aliases_key(name)))

    def _read_alias(self, name: str, alias: str) -> str | None:
        with store_errors(self.backend, "reading aliases"):
            newest = newest_key(self.backend, f"{aliases_key(name)}/{alias}")
            if newest is None:
                return None
            content = self.backend.read(newest)
        try:
            version: str = json.loads(content)["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactCorrupted(
                f"{name}:{alias}: {self.location}/{newest} is not an alias; set it again or give the version"
            ) from error
        return version

    def record(self, ref: ArtifactRef) -> VersionRecord:
        """What is known of the version: producer, inputs, policy.

        Raises:
            ArtifactNotFound: this store has no such version.
            ArtifactCorrupted: it has another content under that version.
        """
        with store_errors(self.backend, f"reading {ref}"):
            try:
                record = self._load_record(ref.name, ref.version)
            except FileNotFoundError as error:
                raise ArtifactNotFound(
                    f"{ref} is not in {self.location}; have: {_listed(self.names())}; {NEXT_STEP}"
                ) from error
        if record.ref.digest != ref.digest:
            raise ArtifactCorrupted(
                f"{ref}: expected {ref.digest}, got {record.ref.digest} in {self.location}; {NEXT_STEP}"
            )
        return record

    def read_record(self, name: str, version: str) -> VersionRecord:
        """What is known of `name:version`.

        Raises:
            ArtifactCorrupted: its record cannot be understood.
            StoreError: its record is missing or cannot be read.
        """
        with store_errors(self.backend, f"reading {name}:{version}"):
            return self._load_record(name, version)

    def _load_record(self, name: str, version: str) -> VersionRecord:
        check_name(name)
        key = f"{versions_key(name)}/{version}.json"
        content = self.backend.read(key)
        try:
            return VersionRecord.model_validate_json(content)
        except ValidationError as error:
            raise ArtifactCorrupted(
                f"{name}:{version}: {self.location}/{key} is not a version record; {NEXT_STEP}"
            ) from error

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """The version's files.

        Raises:
            ArtifactCorrupted: the manifest is missing or not what was published.
        """
        return self.load_manifest(self.record(ref))

    def load_manifest(self, record: VersionRecord) -> Manifest:
        """The files of the version with this record; raises as `manifest`."""
        key, expected = manifest_key(record.manifest), f"sha256:{record.manifest}"
        with store_errors(self.backend, f"reading the manifest of {record.ref}"):
            content = self._read_or_none(key)
        got = "no such file" if content is None else digest_bytes(content)
        if content is None or got != expected:
            raise ArtifactCorrupted(
                f"{record.ref}: manifest: expected {expected}, got {got} ({self.location}/{key}); {NEXT_STEP}"
            )
        return Manifest.model_validate_json(content)

    def checkout_path(self, hexadecimal: str) -> Path:
        """Where `materialize` sets out the copied files of the manifest with this SHA-256."""
        return self.backend.materialized(hexadecimal)

    def find(self, name: str, fingerprint: str, *, run_id: str | None = None) -> ArtifactRef | None:
        """The newest version of `name` that the fingerprint made, in that pipeline run if one is given.

        A version whose record is damaged is passed over with a warning.
        """
        if not fingerprint:
            return None
        index = self._load_index(name)
        for version in reversed(self.version_names(name)):
            if index.get(version, fingerprint) != fingerprint:
                continue
            record = self._load_sound_record(name, version)
            if record and record.producer.fingerprint == fingerprint and run_id in (None, record.producer.run_id):
                return record.ref
        return None

    def _load_index(self, name: str) -> dict[str, str]:
        """The fingerprints of versions of `name`, not always of all."""
        check_name(name)
        with store_errors(self.backend, f"reading the index of {name}"):
            return parse_index(self._read_or_none(index_key(name)))

    def _load_sound_record(self, name: str, version: str) -> VersionRecord | None:
        """What is known of `name:version`; None, with a warning, if its record cannot be understood."""
        try:
            return self.read_record(name, version)
        except ArtifactCorrupted as error:
            _logger.warning("%s; it is passed over", error)
            return None

    def lineage(self, ref: ArtifactRef) -> list[LineageEdge]:
        """Every edge from the version through its inputs to the roots, nearest first."""
        return walk_lineage(self, ref)

    def names(self) -> list[str]:
        """Names of which there is a version, sorted."""
        with store_errors(self.backend, "listing artifacts"):
            return [name for name in sorted(self.backend.list_names("artifacts")) if self._has_versions(name)]

    def _has_versions(self, name: str) -> bool:
        try:
            return bool(list_numbers(self.backend, versions_key(name)))
        except NotADirectoryError:  # a file that is not the store's
            return False

    def versions(self, name: str) -> list[ArtifactRef]:
        """All versions of `name`, oldest first; empty if there are none."""
        return [self.read_record(name, f"v{number}").ref for number in self._numbers(name)]

    def version_names(self, name: str) -> list[str]:
        """`v0`, `v1`, … of `name`, oldest first, without looking at any."""
        return [f"v{number}" for number in self._numbers(name)]

    def _numbers(self, name: str) -> list[int]:
        check_name(name)
        with store_errors(self.backend, "listing versions"):
            return list_numbers(self.backend, versions_key(name))

    def _names_of_type(self, wanted: str) -> list[str]:
        return [name for name in self.names() if self.versions(name)[-1].type == wanted]

    def _read_or_none(self, key: str) -> bytes | None:
        try:
            return self.backend.read(key)
        except FileNotFoundError:
            return None

    def newest_note(self, key: str) -> dict[str, Any] | None:
        """The document that was appended last to the notes `key`, None if there is none.

        Raises:
            ArtifactCorrupted: it is no JSON object.
        """
        with store_errors(self.backend, f"reading the note {key}"):
            newest = newest_key(self.backend, key)
            if newest is None:
                return None
            content = self.backend.read(newest)
        try:
            document = from_json(content)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ArtifactCorrupted(f"{self.location}/{newest} is no note; remove it")
        return document


def versions_key(name: str) -> str:
    """Where the version records of `name` are."""
    return f"artifacts/{name}/versions"


def aliases_key(name: str) -> str:
    """Where the aliases of `name` are."""
    return f"artifacts/{name}/aliases"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
