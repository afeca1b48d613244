"""The artifact store: a directory, or a URL, that any number of processes publish to and read from without a server.

    format.json                               {"format": 1, "hash": "blake3"}, or sha256
    objects/blake3/ab/cd/<hex>                contents, read-only
    manifests/sha256/ab/<hex>.json            the files of a version, canonical JSON, named by its digest
    artifacts/<name>/versions/v<N>.json       the version record; the version exists from the moment this file does
    artifacts/<name>/aliases/<alias>/v<k>.json  what the alias meant, the highest k counts
    mirrors/…/v<k>.json, attest/…/v<k>.json   notes on versions, such as where they are mirrored
    made/<name>.json                          the fingerprints of versions, which can be missing (made_index.py)

Where that is and how it gets there is the backend's matter (backend.py). Nothing else is ever rewritten, and `latest`
is computed, so a killed writer leaves no more than unreferenced files.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from nemo_runspec.artifacts.backend import Writer, manifest_key
from nemo_runspec.artifacts.hashing import canonical_json, digest_bytes
from nemo_runspec.artifacts.made_index import index_key
from nemo_runspec.artifacts.manifest import Manner, build_manifest, list_files
from nemo_runspec.artifacts.numbered import commit, commit_next
from nemo_runspec.artifacts.refs import (
    ArtifactRef,
    Policy,
    Producer,
    VersionRecord,
    check_alias,
    check_name,
    check_own_name,
)
from nemo_runspec.artifacts.store_faults import store_errors
from nemo_runspec.artifacts.store_format import algorithm_to_use, load_algorithm, save_format
from nemo_runspec.artifacts.store_reader import StoreReader, aliases_key, versions_key
from nemo_runspec.artifacts.verification import Level, Verification, check_entry, verify_version
from nemo_runspec.errors import ArtifactError, StoreError
from nemo_runspec.mirror.target import WandbTarget

_logger = logging.getLogger(__name__)


class ArtifactStore(StoreReader):
    """The store at `root`, a directory or a URL. Opening and reading change nothing; the first to publish creates it.

    >>> store = ArtifactStore(".nemotron/artifacts")
    >>> ref = store.publish(Path("out"), name="data", type="PretrainDataArtifact", metadata={}, producer=producer)
    >>> store.materialize(store.resolve("data:latest"))

    Raises:
        StoreError: `root` cannot be read, or is of an unknown format. Every method may raise it.
    """

    @contextmanager
    def _writing(self, doing: str) -> Iterator[Writer]:
        """Write to the store, which is created if need be; no garbage is collected meanwhile."""
        with store_errors(self.backend, doing):
            created = load_algorithm(self.backend) is not None
            with self.backend.writing() as writer:
                if not created:
                    save_format(writer)
                yield writer

    def check_writable(self) -> None:
        """Raise `StoreError` if nothing can be published here, say on a read-only file system; creates the store."""
        with self._writing("writing to it") as writer:
            writer.probe()

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
        digest: Manner = "auto",
        aliases: Sequence[str] = (),
        wandb: WandbTarget | None = None,
        version: int | None = None,
        files: Collection[str] | None = None,
    ) -> ArtifactRef:
        """Make the file or directory the next version of `name`; on return it is on disk.

        With `reference` the files stay where they are and must not change. `digest` says how much of them is read:
        `full` all, `sampled` parts, `auto` all up to 1 GiB and parts of more. What is copied is read in full. Of a
        directory, `files` are taken, all without. `version` is the number to have, for what has one elsewhere; what
        there is under it already stays and is returned.

        Raises:
            ArtifactError: `path`, a name, an alias, an input or the metadata cannot be used; nothing is published.
        """
        check_name(name) if version is not None else check_own_name(name)
        for alias in aliases:
            check_alias(alias)
        if policy == "copy" and digest == "sampled":
            raise ArtifactError(
                f"cannot publish {path}: a copy is read in full; give policy='reference' or digest='full'"
            )
        plain = _plain_metadata(metadata, name=name)
        for needed in inputs:
            self.record(needed)
        with self._writing(f"publishing {name}") as writer:
            manifest = build_manifest(
                list_files(path, only=files),
                policy=policy,
                manner=digest,
                writer=writer,
                algorithm=algorithm_to_use(self.backend),
            )
            content = manifest.to_bytes()
            manifest_hex = digest_bytes(content).removeprefix("sha256:")
            writer.put(manifest_key(manifest_hex), content)
            draft = VersionRecord(
                ref=ArtifactRef(name=name, type=type, version="v0", digest=manifest.content_digest, metadata=plain),
                producer=producer,
                inputs=list({str(needed): needed for needed in inputs}.values()),
                policy=policy,
                manifest=manifest_hex,
                wandb=wandb,
            )
            number = commit(self.backend, writer, versions_key(name), partial(_render_record, draft), number=version)
            record = self.read_record(name, f"v{number}")
            self._index(record, writer)
        ref = record.ref
        for alias in aliases:
            self.set_alias(ref, alias)
        return ref

    def _index(self, made: VersionRecord, writer: Writer) -> None:
        """Add the version to the index, and what others did not; if that fails, the version is there all the same."""
        name = made.ref.name
        try:
            index = {**self._load_index(name), made.ref.version: made.producer.fingerprint}
            is_whole = len(index) == int(made.ref.version[1:]) + 1
            for version in () if is_whole else self.version_names(name):
                if version not in index and (record := self._load_sound_record(name, version)):
                    index[version] = record.producer.fingerprint
            writer.put(index_key(name), canonical_json(index))
        except (OSError, StoreError) as error:
            _logger.warning("%s is published, its fingerprint not yet noted: %s; the next one does it", made.ref, error)

    def set_alias(self, ref: ArtifactRef, alias: str) -> None:
        """Let `name:alias` mean this version from now on."""
        check_alias(alias)
        self.record(ref)
        with self._writing(f"setting alias {ref.name}:{alias}") as writer:
            content = canonical_json({"version": ref.version})
            commit_next(self.backend, writer, f"{aliases_key(ref.name)}/{alias}", lambda _: content)

    def add_note(self, key: str, document: Mapping[str, Any]) -> None:
        """Append a JSON document to the notes `key`, such as `mirrors/wandb/data/v3`; on return it is on disk."""
        with self._writing(f"writing the note {key}") as writer:
            content = canonical_json(dict(document))
            commit_next(self.backend, writer, key, lambda _: content)

    def materialize(self, ref: ArtifactRef) -> Path:
        """A directory with the version's files under their names; read it, do not write there.

        A referenced artifact's files are where they were published.

        Raises:
            ArtifactCorrupted: a file is missing or not of its size.
        """
        record = self.record(ref)
        with store_errors(self.backend, f"materializing {ref}"):
            manifest = self.load_manifest(record)
            for entry in manifest.entries:
                check_entry(entry, artifact=str(ref), backend=self.backend, level="stat")
            if manifest.original_directory is not None:
                return manifest.original_directory
            return self.backend.materialize(record.manifest, [(entry.path, entry.digest) for entry in manifest.entries])

    def verify(self, ref: ArtifactRef, level: Level = "full") -> Verification:
        """Compare every file with what was published: its content, parts of it, or with `stat` its size only.

        Raises:
            ArtifactCorrupted: says which file differs and how.
        """
        record = self.record(ref)
        with store_errors(self.backend, f"verifying {ref}"):
            return verify_version(self, record, self.load_manifest(record), level)


def _render_record(draft: VersionRecord, number: int) -> bytes:
    """The record of the version with this number."""
    ref = draft.ref.model_copy(update={"version": f"v{number}"})
    record = draft.model_copy(update={"ref": ref})
    # Older releases refuse a record with a key that they do not know.
    return canonical_json(record.model_dump(mode="json", exclude={"wandb"} if record.wandb is None else None))


def _plain_metadata(metadata: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = from_json(canonical_json(dict(metadata)))
    except (TypeError, ValueError) as error:
        raise ArtifactError(
            f"{name}: metadata is not finite JSON of valid text: {error}; give str, int, float, bool, list, dict"
        ) from error
    return plain
