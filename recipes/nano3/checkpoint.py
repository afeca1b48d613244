"""Checkpoints of a training run: whole or absent, checked when read, the newest sound one wins.

<folder>/iter_0000050/state.pt        what `torch.save` wrote
<folder>/iter_0000050/manifest.json   {"step": 50, "size": bytes, "sha256": "sha256:…"}

Two runs may save to one folder at the same time, as when Slurm gives up a node whose processes live on: each save is
made under a name of its own, `iter_0000050.partial-<host>-<pid>-<random>`, and the last one to finish stays.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import socket
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nemo_runspec.fingerprint import digest_file

logger = logging.getLogger(__name__)

_NAME = re.compile(r"iter_(\d{7,})")
_PARTIAL = re.compile(r"iter_\d{7,}\.partial(?:-(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{32})?")
STALE_S = 3600.0  # a save that wrote nothing for an hour is none any more, wherever it began


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
        self.folder.mkdir(parents=True, exist_ok=True)
        sweep(self.folder)
        target = self.folder / f"iter_{step:07d}"
        partial = _unique_partial(target)
        partial.mkdir()
        path = partial / "state.pt"
        torch.save(state, path)
        manifest = {"step": step, "size": path.stat().st_size, "sha256": digest_file(path)}
        (partial / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        for written in (path, partial / "manifest.json", partial):
            _sync(written)
        _put_in_place(partial, target)
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


def sweep(folder: Path) -> None:
    """Remove what dead runs left of their saves: those of this machine at once, others when they are old."""
    for path in folder.iterdir():
        if (match := _PARTIAL.fullmatch(path.name)) and (_is_dead(match["host"], match["pid"]) or _is_stale(path)):
            shutil.rmtree(path, ignore_errors=True)


def _is_dead(host: str | None, pid: str | None) -> bool:
    if pid is None or host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _is_stale(path: Path) -> bool:
    with suppress(OSError):
        written = max(entry.stat().st_mtime for entry in (path, *path.iterdir()))
        return time.time() - written > STALE_S
    return False


def _unique_partial(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}")


def _put_in_place(partial: Path, target: Path) -> None:
    """Rename to `target`; what is there gives way, also when another run puts it there at this very moment."""
    while True:
        old = _unique_partial(target)
        with suppress(FileNotFoundError):
            target.rename(old)
        try:
            partial.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return
        finally:
            shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
