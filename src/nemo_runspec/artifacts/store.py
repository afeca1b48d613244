"""The local artifact store: a directory that any number of processes publish to and read from, without a server.

    format.json                               {"format": 1, "hash": "sha256"}
    objects/sha256/ab/cd/<hex>                contents, read-only
    manifests/sha256/ab/<hex>.json            the files of a version, canonical JSON, named by its digest
    artifacts/<name>/versions/v<N>.json       the version record; the version exists from the moment this file does
    artifacts/<name>/aliases/<alias>/v<k>.json  what the alias meant, the highest k counts
    checkouts/<manifest>/                     contents under their names, hard links to the objects
    tmp/                                      unfinished work
    gc.lock                                   shared by all who write, held alone by the garbage collector (gc.py)

Nothing is ever rewritten, and `latest` is computed, so a killed writer leaves no more than unreferenced files. It
needs hard links.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import from_json

from nemo_runspec.artifacts import durable
from nemo_runspec.artifacts.gc_lock import hold_shared
from nemo_runspec.artifacts.hashing import canonical_json, digest_bytes
from nemo_runspec.artifacts.lineage import LineageEdge, walk_lineage
from nemo_runspec.artifacts.manifest import NEXT_STEP, Manifest, build_manifest, check_entry, check_out, is_checked_out
from nemo_runspec.artifacts.refs import (
    LATEST,
    ArtifactRef,
    Policy,
    Producer,
    VersionRecord,
    check_alias,
    check_name,
    parse_ref,
)
from nemo_runspec.errors import ArtifactCorrupted, ArtifactError, ArtifactNotFound, StoreError, did_you_mean
from nemo_runspec.mirror.target import WandbTarget

_FORMAT = {"format": 1, "hash": "sha256"}


class ArtifactStore:
    """The store under `root`. Opening and reading change nothing; the first to publish creates it.

    >>> store = ArtifactStore(".nemotron/artifacts")
    >>> ref = store.publish(Path("out"), name="data", type="PretrainDataArtifact", metadata={}, producer=producer)
    >>> store.materialize(store.resolve("data:latest"))

    Raises:
        StoreError: `root` cannot be read, or is of an unknown format. Every method may raise it.
    """

    def __init__(self, root: Path | str) -> None:
        try:
            self.root = Path(root).expanduser().absolute()
        except RuntimeError as error:
            raise StoreError(f"artifact store {root}: {error}; set NEMOTRON_STORE to a directory") from error
        self.exists()

    def exists(self) -> bool:
        """Whether anybody has created the store; refuses one of another format."""
        with durable.store_errors(self.root, "opening it"):
            return self._has_format()

    def _has_format(self) -> bool:
        path = self.root / "format.json"
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return False
        try:
            found = json.loads(text)
        except ValueError:
            found = text[:80]
        if found != _FORMAT:
            raise StoreError(
                f"{path}: format {found!r} is not supported; allowed: {_FORMAT}; use another NEMOTRON_STORE"
            )
        return True

    @contextmanager
    def _writing(self, doing: str) -> Iterator[Path]:
        """A scratch directory in the store, which is created if need be; no garbage is collected meanwhile."""
        with durable.store_errors(self.root, doing):
            created = self._has_format()
            durable.ensure_directory(self.root)
            with hold_shared(self.root), durable.scratch_directory(self.root) as scratch:
                if not created:
                    # Many may do so at once: each puts the same whole file there.
                    durable.write_new(scratch / "format", canonical_json(_FORMAT))
                    durable.place(scratch / "format", self.root / "format.json")
                yield scratch

    def check_writable(self) -> None:
        """Raise `StoreError` if nothing can be published here, say on a read-only file system; creates the store."""
        with self._writing("writing to it") as scratch:
            durable.write_new(scratch / "probe", b"x")

    def publish(
        self,
        path: Path,
        *,
        name: str,
        type: str,
        metadata: Mapping[str, Any],
        producer: Producer,
        inputs: Sequence[ArtifactRef] = (),
        policy: Policy = "copy",
        aliases: Sequence[str] = (),
        wandb: WandbTarget | None = None,
    ) -> ArtifactRef:
        """Make the file or directory the next version of `name`; on return it is on disk.

        With `reference` the files stay where they are and must not change.

        Raises:
            ArtifactError: `path`, a name, an alias, an input or the metadata cannot be used; nothing is published.
        """
        check_name(name)
        for alias in aliases:
            check_alias(alias)
        plain = _plain_metadata(metadata, name=name)
        for needed in inputs:
            self.record(needed)
        unique_inputs = list({str(needed): needed for needed in inputs}.values())
        with self._writing(f"publishing {name}") as scratch:
            manifest = build_manifest(path, policy=policy, root=self.root, scratch=scratch)
            manifest_hex = self._save_manifest(manifest, scratch)

            def record(number: int) -> VersionRecord:
                ref = ArtifactRef(
                    name=name, type=type, version=f"v{number}", digest=manifest.content_digest, metadata=plain
                )
                return VersionRecord(
                    ref=ref,
                    producer=producer,
                    inputs=unique_inputs,
                    policy=policy,
                    manifest=manifest_hex,
                    wandb=wandb,
                )

            number = durable.commit_next(
                self._versions(name), lambda n: canonical_json(record(n).model_dump(mode="json")), scratch=scratch
            )
        ref = record(number).ref
        for alias in aliases:
            self.set_alias(ref, alias)
        return ref

    def set_alias(self, ref: ArtifactRef, alias: str) -> None:
        """Let `name:alias` mean this version from now on."""
        check_alias(alias)
        self.record(ref)
        with self._writing(f"setting alias {ref.name}:{alias}") as scratch:
            content = canonical_json({"version": ref.version})
            durable.commit_next(self._aliases(ref.name) / alias, lambda _: content, scratch=scratch)

    def add_note(self, key: str, document: Mapping[str, Any]) -> None:
        """Append a JSON document to the notes `key`, such as `mirrors/wandb/data/v3`; on return it is on disk."""
        with self._writing(f"writing the note {key}") as scratch:
            content = canonical_json(dict(document))
            durable.commit_next(self.root / key, lambda _: content, scratch=scratch)

    def newest_note(self, key: str) -> dict[str, Any] | None:
        """The document that was appended last to the notes `key`, None if there is none.

        Raises:
            ArtifactCorrupted: it is no JSON object.
        """
        with durable.store_errors(self.root, f"reading the note {key}"):
            numbers = durable.list_numbers(self.root / key)
            if not numbers:
                return None
            content = (self.root / key / f"v{numbers[-1]}.json").read_bytes()
        try:
            document = from_json(content)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ArtifactCorrupted(f"{self.root / key}/v{numbers[-1]}.json is no note; remove it")
        return document

    def resolve(self, reference: str, expected_type: str | None = None) -> ArtifactRef:
        """The exact version that `name[:vN|:alias|:latest]` means now.

        Raises:
            ArtifactNotFound: no such name, version or alias; says which there are.
            ArtifactError: the text is malformed, or the artifact is not an `expected_type`.
        """
        requested = parse_ref(reference)
        versions = self.version_names(requested.name)
        if not versions:
            names = self.names()
            hint = did_you_mean(requested.name, names)
            raise ArtifactNotFound(
                f"no artifact {requested.name!r} in {self.root}; have: {_listed(names)}.{hint or ' '}"
                f"{'' if hint else 'Run the stage that makes it, or set NEMOTRON_STORE.'}"
            )
        version = versions[-1] if requested.selector == LATEST else requested.selector
        if version not in versions:
            version = self._aliased(requested.name, version, versions)
        ref = self.read_record(requested.name, version).ref
        if expected_type is not None and ref.type != expected_type:
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
            f"artifact {name!r} has no version or alias {alias!r} in {self.root}; have: {newest}, "
            f"{_listed([LATEST, *aliases])}.{did_you_mean(alias, [LATEST, *aliases, *versions])}"
        )

    def aliases(self, name: str) -> dict[str, str]:
        """What each alias of `name` means now, as alias → version, sorted."""
        meanings = {alias: self._read_alias(name, alias) for alias in self._alias_names(name)}
        return {alias: version for alias, version in meanings.items() if version is not None}

    def _alias_names(self, name: str) -> list[str]:
        check_name(name)
        with durable.store_errors(self.root, "reading aliases"):
            directory = self._aliases(name)
            return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []

    def _read_alias(self, name: str, alias: str) -> str | None:
        with durable.store_errors(self.root, "reading aliases"):
            directory = self._aliases(name) / alias
            numbers = durable.list_numbers(directory)
            return _parse_alias(directory / f"v{numbers[-1]}.json", meaning=f"{name}:{alias}") if numbers else None

    def materialize(self, ref: ArtifactRef) -> Path:
        """A directory with the version's files under their names; read it, do not write there.

        A referenced artifact's files are where they were published.

        Raises:
            ArtifactCorrupted: a file is missing or not of its size.
        """
        record = self.record(ref)
        with durable.store_errors(self.root, f"materializing {ref}"):
            manifest = self._load_manifest(record)
            self._check(record, manifest, level="stat")
            if manifest.original_directory is not None:
                return manifest.original_directory
            target = self.checkout_path(record.manifest)
            if not is_checked_out(manifest, target, root=self.root):
                with self._writing(f"materializing {ref}") as scratch:
                    check_out(manifest, target, root=self.root, scratch=scratch)
            return target

    def verify(self, ref: ArtifactRef, level: Literal["full", "stat"] = "full") -> None:
        """Compare every file with what was published: its content, or with `stat` its size only.

        Raises:
            ArtifactCorrupted: says which file differs and how.
        """
        record = self.record(ref)
        with durable.store_errors(self.root, f"verifying {ref}"):
            self._check(record, self._load_manifest(record), level=level)

    def record(self, ref: ArtifactRef) -> VersionRecord:
        """What is known of the version: producer, inputs, policy.

        Raises:
            ArtifactNotFound: this store has no such version.
            ArtifactCorrupted: it has another content under that version.
        """
        if int(ref.version[1:]) not in self._numbers(ref.name):
            raise ArtifactNotFound(f"{ref} is not in {self.root}; have: {_listed(self.names())}; {NEXT_STEP}")
        record = self.read_record(ref.name, ref.version)
        if record.ref.digest != ref.digest:
            raise ArtifactCorrupted(
                f"{ref}: expected {ref.digest}, got {record.ref.digest} in {self.root}; {NEXT_STEP}"
            )
        return record

    def read_record(self, name: str, version: str) -> VersionRecord:
        """What is known of `name:version`.

        Raises:
            ArtifactCorrupted: its record cannot be understood.
            StoreError: its record is missing or cannot be read.
        """
        path = self._versions(name) / f"{version}.json"
        with durable.store_errors(self.root, f"reading {name}:{version}"):
            content = path.read_bytes()
        try:
            return VersionRecord.model_validate_json(content)
        except ValidationError as error:
            raise ArtifactCorrupted(f"{name}:{version}: {path} is not a version record; {NEXT_STEP}") from error

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """The version's files.

        Raises:
            ArtifactCorrupted: the manifest is missing or not what was published.
        """
        record = self.record(ref)
        with durable.store_errors(self.root, f"reading the manifest of {ref}"):
            return self._load_manifest(record)

    def manifest_path(self, hexadecimal: str) -> Path:
        """Where the manifest with this SHA-256 is kept."""
        return self.root / "manifests" / "sha256" / hexadecimal[:2] / f"{hexadecimal}.json"

    def checkout_path(self, hexadecimal: str) -> Path:
        """Where `materialize` sets out the copied files of the manifest with this SHA-256."""
        return self.root / "checkouts" / hexadecimal

    def find(self, name: str, fingerprint: str) -> ArtifactRef | None:
        """The newest version of `name` that the fingerprint made."""
        for number in reversed(self._numbers(name)):
            record = self.read_record(name, f"v{number}")
            if fingerprint and record.producer.fingerprint == fingerprint:
                return record.ref
        return None

    def lineage(self, ref: ArtifactRef) -> list[LineageEdge]:
        """Every edge from the version through its inputs to the roots, nearest first."""
        return walk_lineage(self, ref)

    def names(self) -> list[str]:
        """Names of which there is a version, sorted."""
        with durable.store_errors(self.root, "listing artifacts"):
            directory = self.root / "artifacts"
            there = list(directory.iterdir()) if directory.is_dir() else []
            found = sorted(path.name for path in there if (path / "versions").is_dir())
        return [name for name in found if self._numbers(name)]

    def versions(self, name: str) -> list[ArtifactRef]:
        """All versions of `name`, oldest first; empty if there are none."""
        return [self.read_record(name, f"v{number}").ref for number in self._numbers(name)]

    def version_names(self, name: str) -> list[str]:
        """`v0`, `v1`, … of `name`, oldest first, without looking at any."""
        return [f"v{number}" for number in self._numbers(name)]

    def _versions(self, name: str) -> Path:
        return self.root / "artifacts" / name / "versions"

    def _aliases(self, name: str) -> Path:
        return self.root / "artifacts" / name / "aliases"

    def _numbers(self, name: str) -> list[int]:
        check_name(name)
        with durable.store_errors(self.root, "listing versions"):
            return durable.list_numbers(self._versions(name))

    def _names_of_type(self, wanted: str) -> list[str]:
        return [name for name in self.names() if self.versions(name)[-1].type == wanted]

    def _save_manifest(self, manifest: Manifest, scratch: Path) -> str:
        content = manifest.to_bytes()
        hexadecimal = digest_bytes(content).removeprefix("sha256:")
        durable.write_new(scratch / "manifest", content)
        durable.place(scratch / "manifest", self.manifest_path(hexadecimal))
        return hexadecimal

    def _load_manifest(self, record: VersionRecord) -> Manifest:
        path = self.manifest_path(record.manifest)
        expected = f"sha256:{record.manifest}"
        got = digest_bytes(path.read_bytes()) if path.is_file() else "no such file"
        if got != expected:
            raise ArtifactCorrupted(f"{record.ref}: manifest: expected {expected}, got {got} ({path}); {NEXT_STEP}")
        return Manifest.model_validate_json(path.read_bytes())

    def _check(self, record: VersionRecord, manifest: Manifest, *, level: Literal["full", "stat"]) -> None:
        for entry in manifest.entries:
            check_entry(entry, artifact=str(record.ref), root=self.root, level=level)


def _parse_alias(path: Path, *, meaning: str) -> str:
    try:
        version: str = json.loads(path.read_bytes())["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactCorrupted(f"{meaning}: {path} is not an alias; set it again or give the version") from error
    return version


def _plain_metadata(metadata: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = from_json(canonical_json(dict(metadata)))
    except (TypeError, ValueError) as error:
        raise ArtifactError(
            f"{name}: metadata is not finite JSON of valid text: {error}; give str, int, float, bool, list, dict"
        ) from error
    return plain


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
