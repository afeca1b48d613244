"""What the tests of the store publish with."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, Producer
from nemo_runspec.artifacts.refs import Policy


@dataclass(frozen=True)
class Publisher:
    """Writes files (name → text) to a new directory under `sources` and publishes that."""

    store: ArtifactStore
    sources: Path

    def __call__(
        self,
        files: Mapping[str, str],
        *,
        name: str = "data",
        type: str = "T",
        metadata: Mapping[str, Any] | None = None,
        stage: str = "prepare",
        fingerprint: str = "f0",
        inputs: Sequence[ArtifactRef] = (),
        policy: Policy = "copy",
        aliases: Sequence[str] = (),
    ) -> ArtifactRef:
        return self.store.publish(
            self.write(files),
            name=name,
            type=type,
            metadata=metadata or {},
            producer=Producer(run_id="run-1", stage=stage, fingerprint=fingerprint),
            inputs=inputs,
            policy=policy,
            aliases=aliases,
        )

    def write(self, files: Mapping[str, str]) -> Path:
        directory = self.sources / uuid.uuid4().hex
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return directory


def objects(store: ArtifactStore) -> list[Path]:
    """The files that hold contents."""
    return [path for path in (store.path / "objects").rglob("*") if path.is_file()]


def overwrite(path: Path, content: bytes) -> None:
    """Change a read-only file in place, as a bad disk would."""
    path.chmod(0o644)
    path.write_bytes(content)
