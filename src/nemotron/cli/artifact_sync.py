"""`artifacts sync`: what waits for W&B servers is sent or shown, a line for each."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.errors import ArtifactError
from nemo_runspec.mirror.aliases import find_changes
from nemo_runspec.mirror.outbox import Outbox, find_servers, read_outbox
from nemo_runspec.mirror.server import WandbServer
from nemo_runspec.mirror.sync import SyncReport, sync


def find_wanted(store: ArtifactStore, references: Sequence[str]) -> list[ArtifactRef] | None:
    """The versions that the references mean, None if there are no references.

    Raises:
        ArtifactError: a reference means nothing here, or a version that is meant for no server.
    """
    refs = [store.resolve(reference) for reference in references]
    for ref in refs:
        if not find_servers(store, [ref]):
            raise ArtifactError(
                f"{ref} is not meant for W&B: its stage ran without it; set project in [wandb] of env.toml and run the "
                "pipeline again, which sends what it takes from the store, too"
            )
    return refs or None


def servers(store: ArtifactStore, wanted: list[ArtifactRef] | None, *, of_project: bool) -> list[WandbServer]:
    """Those for which something is meant, each with its key; the block of the project's store has one for its own."""
    from nemo_runspec.project import find_project
    from nemotron.blocks.store_settings import environment_server, wandb_server

    find = wandb_server if of_project and not os.environ.get("NEMOTRON_STORE") else environment_server
    return [find(url, find_project()) for url in find_servers(store, wanted)]


def show_waiting(
    store: ArtifactStore, server: WandbServer, wanted: list[ArtifactRef] | None, *, say: Callable[[str], None]
) -> dict[str, Any]:
    """Say what waits for the server and where it goes; the same as JSON."""
    outbox = read_outbox(store, server, only=wanted)
    aliases = [str(change) for name in _names(store, wanted) for change in find_changes(store, server, name)]
    lines = [*_waiting_lines(outbox), *((alias, "alias") for alias in aliases)]
    for what, place in lines:
        say(f"{what}  waits: {place} on {server.base_url}")
    for what, why in outbox.damaged.items():
        say(f"{what}  BAD  {why}")
    say(f"{server.base_url}: {len(lines):,} waiting, {len(outbox.mirrored):,} there")
    return {"server": server.base_url, "waiting": [what for what, _ in lines], "already_there": list(outbox.mirrored)}


def _waiting_lines(outbox: Outbox) -> list[tuple[str, str]]:
    """What waits, and for which project and run; a version may wait for several."""
    targets = [*outbox.metrics.items(), *((str(waiting.ref), waiting.target) for waiting in outbox.waiting)]
    return [
        (what, f"{target.entity or 'the default entity'}/{target.project}, run {target.run_id}")
        for what, target in targets
    ]


def _names(store: ArtifactStore, wanted: list[ArtifactRef] | None) -> list[str]:
    return store.names() if wanted is None else sorted({ref.name for ref in wanted})


def send(
    store: ArtifactStore,
    server: WandbServer,
    wanted: list[ArtifactRef] | None,
    *,
    timeout_s: float,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], bool]:
    """Send what waits for the server and say how it went; the same as JSON, and whether all is there."""
    report = sync(store, server, only=wanted, timeout_s=timeout_s, report=say)
    say(
        f"{server.base_url}: {len(report.synced):,} sent, {len(report.already_there):,} there before, "
        f"{len(report.failed):,} not sent"
    )
    return {"server": server.base_url, **_document(report)}, not report.failed


def _document(report: SyncReport) -> dict[str, Any]:
    return {
        "synced": {ref: pin.model_dump(mode="json") for ref, pin in report.synced.items()},
        "already_there": {ref: pin.model_dump(mode="json") for ref, pin in report.already_there.items()},
        "failed": report.failed,
    }
