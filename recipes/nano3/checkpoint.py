"""Checkpoints of a training run: whole or absent, checked when read, the newest sound one wins.

<folder>/iter_0000050/state.pt        what `torch.save` wrote
<folder>/iter_0000050/manifest.json   {"step": 50, "size": bytes, "sha256": "sha256:…"}
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nemo_runspec.fingerprint import digest_file

logger = logging.getLogger(__name__)

_NAME = re.compile(r"iter_(\d{7,})")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state after `step` optimizer steps."""

    step: int
    state: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """The checkpoints under `folder`; only the newest `keep` stay."""

    folder: Path
    keep: int = 2

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the checkpoint so that a crash leaves it whole or absent; then remove the oldest ones."""
        target = self.folder / f"iter_{step:07d}"
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        path = partial / "state.pt"
        torch.save(state, path)
        manifest = {"step": step, "size": path.stat().st_size, "sha256": digest_file(path)}
        (partial / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        for written in (path, partial / "manifest.json", partial):
            _sync(written)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        _sync(self.folder)
        # Later ones are damaged, or the run would have gone on from there: they do not count.
        for old in [found for found in self.steps() if found <= step][: -self.keep]:
            shutil.rmtree(self.folder / f"iter_{old:07d}", ignore_errors=True)

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, ascending, sound or not."""
        if not self.folder.is_dir():
            return []
        return sorted(int(match[1]) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name)))

    def load_latest(self) -> Checkpoint | None:
        """The newest sound checkpoint; one that is truncated or altered is passed over with a warning."""
        for step in reversed(self.steps()):
            folder = self.folder / f"iter_{step:07d}"
            problem = find_damage(folder)
            if problem is None:
                state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
                return Checkpoint(step=step, state=state)
            logger.warning("checkpoint %s is damaged (%s); trying the one before", folder, problem)
        return None


def find_damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, None if it is sound."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        path = folder / "state.pt"
        size = path.stat().st_size
        if size != manifest["size"]:
            return f"state.pt has {size} bytes, expected {manifest['size']}"
        return None if digest_file(path) == manifest["sha256"] else "state.pt differs from its digest"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
