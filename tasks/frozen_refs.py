"""What the references of a pipeline run mean: decided once, and the same from then on whatever is published meanwhile.

.nemotron/runs/<run id>.refs/<digest of the reference>.json has each decision. The first who writes it decides, for
retries, later stages and other processes that drive the run too.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, parse_ref
from nemo_runspec.artifacts.durable import ensure_directory, sync_directory, write_new
from nemo_runspec.errors import ArtifactCorrupted, ArtifactNotFound, ConfigError, RequirementError
from nemo_runspec.mirror.intake import ForeignSource, resolve_reference
from nemotron.tasks.stage_options import StageOptions

Manner = Literal["keep", "check", "look"]
"""Decide for the run; decide for now and `keep` later; only look, so that nothing is written or fetched."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A reference as it was given, without a digest, and the version that it means: name, `vN`, digest."""

    reference: str
    name: str
    version: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True, kw_only=True)
class FrozenRefs:
    """The references of one run; `pending` are decisions that are not kept yet, by reference."""

    folder: Path
    store: ArtifactStore
    manner: Manner = "keep"
    pending: dict[str, Decision] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """The pipeline run."""
        return self.folder.name.removesuffix(".refs")

    def resolve(
        self, reference: str, expected_type: str | None = None, *, source: Callable[[], ForeignSource] | None = None
    ) -> ArtifactRef:
        """The version that the reference means in this run; `source` tells where those of W&B are.

        Raises:
            ArtifactNotFound: there is none, or there is no more what it was decided to be.
            ArtifactError: it is malformed, of another type or digest, or W&B does not give it.
        """
        requested = parse_ref(reference)
        if requested.is_exact and not requested.is_foreign:
            return self.store.resolve(reference, expected_type)
        known = self.pending.get(str(requested)) or _read(self._path(str(requested)))
        if known is None:
            if requested.is_foreign and source is not None:
                place = replace(source(), may_fetch=self.manner != "look")
                ref = resolve_reference(self.store, reference, expected_type, place)
            else:
                ref = self.store.resolve(reference, expected_type)
            known = Decision(reference=str(requested), name=ref.name, version=ref.version, digest=ref.digest)
            if self.manner == "keep":
                known = self._keep(known)
            else:
                self.pending[known.reference] = known
        ref = self._find(known, expected_type)
        requested.check_digest(ref)
        return ref

    def keep(self) -> None:
        """Make the decisions those of the run, as far as nobody has made others meanwhile."""
        for decision in self.pending.values():
            self._keep(decision)

    def _find(self, decision: Decision, expected_type: str | None) -> ArtifactRef:
        said = f"{decision.reference} is {decision} in run {self.run_id}"
        try:
            ref = self.store.resolve(str(decision), expected_type)
        except ArtifactNotFound as error:
            raise ArtifactNotFound(f"{said}, which is gone: {error} Put it back, or start another run") from error
        if ref.digest != decision.digest:
            raise ArtifactCorrupted(
                f"{said}: expected {decision.digest}, got {ref.digest} in {self.store.location}; put it back, or start "
                "another run"
            )
        return ref

    def _keep(self, decision: Decision) -> Decision:
        """The decision that counts: this one, or that of who was faster."""
        path = self._path(decision.reference)
        partial = path.with_name(f".{uuid.uuid4().hex}")
        try:
            ensure_directory(path.parent)
            write_new(partial, json.dumps(asdict(decision), indent=1).encode())
            try:
                os.link(partial, path)  # link(2): makes the finished file visible, or fails because there is one
            except FileExistsError:
                pass
            finally:
                partial.unlink(missing_ok=True)
            sync_directory(path.parent)
        except OSError as error:
            raise RequirementError(
                f"{path}: cannot be written: {error.strerror or error}; a run keeps there what its references mean: "
                "it needs free space and hard links"
            ) from error
        return _read(path) or decision

    def _path(self, reference: str) -> Path:
        return self.folder / f"{hashlib.sha256(reference.encode()).hexdigest()[:32]}.json"


def frozen_refs(
    options: StageOptions, *, manner: Manner = "keep", pending: dict[str, Decision] | None = None
) -> FrozenRefs:
    """The references of the run that the options name."""
    return FrozenRefs(
        folder=_folder(options.home, options.run_id),
        store=ArtifactStore(options.store_root),
        manner=manner,
        pending={} if pending is None else pending,
    )


def read_decisions(home: Path, run_id: str) -> list[Decision]:
    """All decisions of a run, by reference."""
    found = [decision for path in _folder(home, run_id).glob("*.json") if (decision := _read(path)) is not None]
    return sorted(found, key=lambda decision: decision.reference)


def _folder(home: Path, run_id: str) -> Path:
    return home / "runs" / f"{run_id}.refs"


def _read(path: Path) -> Decision | None:
    try:
        return Decision(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not what a reference of a run means: {error}; remove it") from error
