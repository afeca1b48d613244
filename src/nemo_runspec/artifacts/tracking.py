"""The script's side: which store to publish to, under what name, made from what.

The stage that runs a script says so in the environment: NEMOTRON_STORE, NEMOTRON_RUN_ID, NEMOTRON_STAGE,
NEMOTRON_FINGERPRINT, NEMOTRON_OUTPUT_NAME, NEMOTRON_INPUTS (JSON, slot → `name:vN`). A script started by hand
publishes to `.nemotron/artifacts`, with what the `run` section of its config has in the slots that it declares.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from nemo_runspec.artifacts.refs import ArtifactRef, Producer
from nemo_runspec.artifacts.slots import read_slot, resolve_together
from nemo_runspec.artifacts.store import ArtifactStore
from nemo_runspec.artifacts.types import Artifact, ModelArtifact
from nemo_runspec.errors import ArtifactError
from nemo_runspec.mirror.target import WandbTarget
from nemo_runspec.recipe_scripts import has_runspec
from nemo_runspec.runspec import parse

ENV_STORE = "NEMOTRON_STORE"
ENV_INPUTS = "NEMOTRON_INPUTS"
ENV_OUTPUT_NAME = "NEMOTRON_OUTPUT_NAME"
DEFAULT_STORE = ".nemotron/artifacts"


@dataclass(frozen=True, kw_only=True)
class ArtifactTracking:
    """What `log_artifact` needs to know; `inputs` goes from slot to exact version."""

    store: ArtifactStore
    output_name: str | None
    run_id: str
    stage: str
    fingerprint: str
    inputs: Mapping[str, ArtifactRef]
    wandb: WandbTarget | None = None


def setup_artifact_tracking(config: Mapping[str, Any]) -> ArtifactTracking:
    """Read the environment and pin the inputs; call it before the work, so that a bad store is found first.

    Raises:
        ArtifactNotFound: an input is not in the store.
        ArtifactError: NEMOTRON_INPUTS or a reference is malformed, or an input is of another type than its slot's.
        ConfigError: a slot has something else than text.
        StoreError: the store cannot be written.
    """
    store = ArtifactStore(os.environ.get(ENV_STORE) or DEFAULT_STORE)
    store.check_writable()
    return ArtifactTracking(
        store=store,
        output_name=os.environ.get(ENV_OUTPUT_NAME) or None,
        run_id=os.environ.get("NEMOTRON_RUN_ID") or _run_by_hand(),
        stage=os.environ.get("NEMOTRON_STAGE") or "by-hand",
        fingerprint=os.environ.get("NEMOTRON_FINGERPRINT", ""),
        inputs=_find_inputs(config, store),
        wandb=WandbTarget.from_environment(),
    )


@cache
def _run_by_hand() -> str:
    """The run of this process, for which nobody gave an id: two of them have nothing to do with each other."""
    return f"by-hand-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def _find_inputs(config: Mapping[str, Any], store: ArtifactStore) -> dict[str, ArtifactRef]:
    text = os.environ.get(ENV_INPUTS)
    if text is not None:
        return {slot: store.resolve(reference) for slot, reference in _parse_inputs(text).items()}
    run = config.get("run") or {}
    found = {}
    for slot, type_name in _declared_inputs().items():
        reference = read_slot(run.get(slot), where=f"run.{slot}", type_name=type_name)
        if reference is not None:
            found[slot] = resolve_together(store.location, reference, type_name)
    return found


def _parse_inputs(text: str) -> dict[str, str]:
    try:
        inputs = json.loads(text)
    except ValueError:
        inputs = None
    if not isinstance(inputs, dict) or not all(isinstance(value, str) for value in inputs.values()):
        raise ArtifactError(
            f"{ENV_INPUTS}={text!r} is not a JSON object of slot to NAME:VERSION; unset it or correct it"
        )
    return inputs


def _declared_inputs() -> Mapping[str, str]:
    """Slot → type, as the script that runs here declares them."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    return parse(script).artifacts.inputs if script and has_runspec(Path(script)) else {}


def log_artifact(artifact: Artifact, tracking: ArtifactTracking) -> ArtifactRef | None:
    """Publish the artifact and return its reference; on ranks other than 0 do nothing and return None.

    A model's files are referenced where they lie, anything else is copied into the store.

    Raises:
        ArtifactError: no name was given, or the path cannot be published.
        StoreError: the store cannot be written, say on a full disk.
    """
    if os.environ.get("RANK", "0") != "0":
        return None
    name = tracking.output_name or artifact.name
    if name is None:
        raise ArtifactError(f"{artifact.type} at {artifact.path} has no name; give name=… or set {ENV_OUTPUT_NAME}")
    return tracking.store.publish(
        Path(artifact.path),
        name=name,
        type=artifact.type,
        metadata=artifact.metadata,
        producer=Producer(run_id=tracking.run_id, stage=tracking.stage, fingerprint=tracking.fingerprint),
        inputs=list(tracking.inputs.values()),
        policy="reference" if isinstance(artifact, ModelArtifact) else "copy",
        wandb=tracking.wandb,
    )
