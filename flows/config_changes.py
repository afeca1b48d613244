"""How the settings that made an artifact differ from those that made the version before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.artifacts.refs import Producer
from nemo_runspec.config import extract_train_config
from nemo_runspec.config.origins import leaves_of
from nemotron.tasks.job_index import find_config

OF_THE_CODE = ("git", "packages")
"""Of `run`, what also says why two runs differ."""
MAX_SHOWN = 40
_ABSENT = object()


@dataclass(frozen=True, kw_only=True)
class ConfigChanges:
    """`lines` are `key: old → new`; `lacking` says of which run the settings are not known any more."""

    before: ArtifactRef
    lines: tuple[str, ...] = ()
    lacking: str = ""

    def summary(self) -> list[str]:
        """What to show, at least one line."""
        if self.lacking:
            return [f"not known: the job.yaml of {self.lacking} is not here any more"]
        shown, num_left_out = list(self.lines[:MAX_SHOWN]), len(self.lines) - MAX_SHOWN
        return [*shown, *([f"… {num_left_out} more"] if num_left_out > 0 else [])] or ["no difference"]


def find_changes(ref: ArtifactRef, store: ArtifactStore, work_root: Path) -> ConfigChanges | None:
    """The changes since the version before, None if there was none; `work_root` is where work directories lie."""
    names = store.version_names(ref.name)
    position = names.index(ref.version)
    if position == 0:
        return None
    old, new = (store.read_record(ref.name, name) for name in (names[position - 1], ref.version))
    settings = [_read_settings(record.producer, work_root) for record in (old, new)]
    for record, found in zip((old, new), settings, strict=True):
        if found is None:
            return ConfigChanges(before=old.ref, lacking=f"{record.ref}, made by {record.producer.run_id},")
    return ConfigChanges(before=old.ref, lines=tuple(compare(*filter(None, settings))))


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """A line for each key whose values differ. Pure."""
    for key in sorted({*old, *new}):
        before, after = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if before != after:
            yield f"{key}: {_show(before)} → {_show(after)}"


def _read_settings(producer: Producer, work_root: Path) -> dict[str, Any] | None:
    """Dotted key → value of what the script was given, and of its code; secrets are hidden already."""
    name = f"{producer.stage}-{producer.fingerprint[:16]}"  # as `plan_stage` calls it
    folders = (work_root / f"{name}-{producer.run_id}", work_root / name)
    path = next((path for folder in folders if (path := find_config(folder)) is not None), None)
    if path is None:
        return None
    try:
        job = OmegaConf.load(path)
        assert isinstance(job, DictConfig)
        train = OmegaConf.to_container(extract_train_config(job), resolve=False)
        run = OmegaConf.to_container(job.run, resolve=False)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException):
        return None
    assert isinstance(run, dict)
    return dict(leaves_of(train)) | dict(leaves_of({key: run.get(key) for key in OF_THE_CODE}))


def _show(value: object) -> str:
    return "–" if value is _ABSENT else str(value)
