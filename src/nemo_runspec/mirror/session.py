"""Logging versions to W&B, in the helper process: the only module besides metrics and foreign that imports `wandb`.

Repeating is harmless: equal content of a version already there is that version, and edges and aliases are sets. Only
what a server still commits for a client that died it has twice then, under two numbers.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_runspec.errors import MirrorError
from nemo_runspec.mirror.lock import hold
from nemo_runspec.mirror.pins import WandbPin
from nemo_runspec.mirror.server import LATER
from nemo_runspec.mirror.target import WandbTarget
from nemo_runspec.mirror.version_request import Reference, VersionRequest

if TYPE_CHECKING:
    from wandb import Artifact, Run

_FINISH_TIMEOUT_S = 20.0


def log_version(document: dict[str, Any]) -> dict[str, Any]:
    """The helper's task `log`: a `VersionRequest` in; out the `pin` of what W&B now has, and the inputs it `lost`.

    Raises:
        MirrorError: the version is not whole on the server, or another process logs to it all the time.
    """
    request = VersionRequest.model_validate(document)
    # Of two who log the same at once, W&B would make two versions. It is this process that has the lock, so that it is
    # held until the work ends even if whoever asked is gone.
    with hold(Path(request.lock), timeout_s=request.lock_timeout_s):
        run = _open_run(request.target)
        run.config.update(request.config, allow_val_change=True)  # type: ignore[no-untyped-call]
        lost = [pin.qualified_name for pin in request.inputs if not _use(run, pin)]
        pin = _log(run, request)
        if request.newer is not None:
            _point(request.newer, "latest")
        # Before the pin is written, or a run that was left open by a kill would stay so.
        run.finish()
    return {"pin": pin.model_dump(mode="json"), "lost": lost}


def set_alias(document: dict[str, Any]) -> dict[str, Any]:
    """The helper's task `alias`: let `alias` mean the version of `pin`, or with `pin` None nothing in `collection`."""
    alias = document["alias"]
    if document["pin"] is None:
        _remove(document["collection"], alias)
    else:
        _point(WandbPin.model_validate(document["pin"]), alias)
    return {}


def _open_run(target: WandbTarget) -> Run:
    import wandb

    return wandb.init(
        id=target.run_id,
        entity=target.entity,
        project=target.project,
        name=target.name,
        group=target.group,
        job_type=target.job_type,
        tags=target.tags or None,
        notes=target.notes,
        resume="allow",
        # All that is left to send then is how the run ended, for which the client would else wait without end.
        settings=wandb.Settings(finish_timeout=_FINISH_TIMEOUT_S),
    )


def _use(run: Run, pin: WandbPin) -> bool:
    """Whether the server still had what was logged there, and knows now that the run used it."""
    import wandb

    if not wandb.Api().artifact_exists(pin.qualified_name):
        return False
    return run.use_artifact(pin.qualified_name).digest == pin.digest


def _log(run: Run, request: VersionRequest) -> WandbPin:
    import wandb

    artifact = wandb.Artifact(request.name, type=request.type, metadata=request.metadata)
    with tempfile.TemporaryDirectory(dir=os.environ["WANDB_DIR"]) as directory:
        _fill(artifact, request, Path(directory))
        digest = artifact.digest
        run.log_artifact(artifact, aliases=list(request.aliases))
        artifact.wait()
    # `wait` has asked the server for both.
    if (artifact.state, artifact.digest) != ("COMMITTED", digest):
        raise MirrorError(
            f"W&B has {artifact.source_qualified_name} in state {artifact.state} with digest {artifact.digest}, "
            f"expected COMMITTED and {digest}; wait, {LATER}"
        )
    return WandbPin(
        server=os.environ["WANDB_BASE_URL"],
        qualified_name=artifact.source_qualified_name,
        digest=artifact.digest,
        run_path="/".join([run.entity, run.project, run.id]),
        run_url=run.url,
        artifact_url=artifact.url or None,
    )


def _fill(artifact: Artifact, request: VersionRequest, directory: Path) -> None:
    for reference in request.references:
        _add_reference(artifact, reference)
    for number, (name, text) in enumerate(request.texts.items()):
        path = directory / str(number)
        path.write_text(text, encoding="utf-8")
        artifact.add_file(str(path), name=name, policy="immutable", skip_cache=True)


def _add_reference(artifact: Artifact, reference: Reference) -> None:
    """As `add_reference(checksum=False)`, which would need boto3 for s3:// and the file here for file://."""
    from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry
    from wandb.sdk.lib.hashutil import md5_string
    from wandb.sdk.lib.paths import LogicalPath

    digest = md5_string(f"{reference.uri} {reference.size}")
    entry = ArtifactManifestEntry(
        path=LogicalPath(reference.path), ref=reference.uri, digest=digest, size=reference.size
    )
    artifact.manifest.add_entry(entry)


def _point(pin: WandbPin, alias: str) -> None:
    import wandb

    artifact = wandb.Api().artifact(pin.qualified_name)
    if alias not in artifact.aliases:
        artifact.aliases.append(alias)
        artifact.save()


def _remove(collection: str, alias: str) -> None:
    import wandb

    api = wandb.Api()
    if not api.artifact_exists(f"{collection}:{alias}"):
        return
    artifact = api.artifact(f"{collection}:{alias}")
    artifact.aliases.remove(alias)
    artifact.save()
