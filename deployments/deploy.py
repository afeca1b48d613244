"""Has the Prefect server know the project's deployments and what belongs to them, by as few changes as that takes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from nemo_runspec.errors import ConfigError, did_you_mean
from nemotron.blocks.env_profile import prefect_client
from nemotron.deployments import automations, notifications
from nemotron.deployments.deployment_check import check_deployment, load_flow
from nemotron.deployments.deployment_file import PROJECT_VARIABLE, DeploymentEntry, find_file, read_file
from nemotron.deployments.registration import Change, plan_deployment, plan_pool

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient

ANSWER_TIMEOUT_S = 30.0
ALONE = "stage"  # the flow of a stage that is run alone
NOT_MADE_YET = UUID(int=0)


@dataclass(frozen=True, kw_only=True)
class DeployOptions:
    """`only`: names of deployments as nano3/full, nothing but these; none means all, and what belongs to them."""

    project: Path
    file: Path | None = None
    only: tuple[str, ...] = ()
    dry_run: bool = False


Deployment = tuple[DeploymentEntry, "Flow[..., Any]"]


def deploy(options: DeployOptions, url: str) -> Iterator[str]:
    """Do it on the server at `url`, a line for each thing; all is checked before the first is changed.

    Raises:
        ConfigError: a deployment whose runs would be refused, or something else in its file or env.toml.
        RequirementError: the server does not answer.
    """
    chosen = read_deployments(options)
    notify = notifications.read_notify(options.project)
    with prefect_client(url, timeout_s=ANSWER_TIMEOUT_S) as client:
        client.hello().raise_for_status()
        for entry, flow in chosen:
            for note in check_deployment(entry, flow):
                yield f"note: {note}"
        if "block" in notify:
            notifications.block_id(client, notify)
        changed = 0
        for change in plan(client, chosen, notify, alone=bool(options.only)):
            yield str(change)
            if change.apply is not None:
                changed += 1
                if not options.dry_run:
                    change.apply()
    if not changed:
        yield "nothing to change"
    elif options.dry_run:
        yield "nothing was changed: --dry-run"


def read_deployments(options: DeployOptions) -> list[Deployment]:
    """Those that are chosen, with their flows.

    Raises:
        ConfigError: a file, deployment or entrypoint that cannot be used, or a name that is not among them.
    """
    path = find_file(options.project, options.file)
    entries = read_file(path, {**os.environ, PROJECT_VARIABLE: str(options.project)})
    loaded = [(entry, load_flow(entry)) for entry in entries]
    by_name = {f"{flow.name}/{entry.name}": (entry, flow) for entry, flow in loaded}
    for name in options.only:
        if name not in by_name:
            raise ConfigError(f"--only {name}: not in {path}; have: {', '.join(by_name)}.{did_you_mean(name, by_name)}")
    return [deployment for name, deployment in by_name.items() if not options.only or name in options.only]


def plan(
    client: SyncPrefectClient, chosen: Sequence[Deployment], notify: Mapping[str, str], *, alone: bool
) -> Iterator[Change]:
    """The changes one by one: each may need those before."""
    for pool in dict.fromkeys(entry.work_pool.name for entry, _ in chosen):
        yield plan_pool(client, pool)
    for entry, flow in chosen:
        yield plan_deployment(client, entry, flow)
    if alone:
        return
    flows = list(dict.fromkeys([*(flow.name for _, flow in chosen), ALONE]))
    yield automations.plan_automation(client, automations.crash_silent_runs(flows))
    if not notify:
        for name in (automations.FAILED, automations.WAITS, automations.HANGS):
            if removal := automations.plan_removal(client, name):
                yield removal
        return
    if "url" in notify:
        yield notifications.plan_block(client, notify["url"])
    block = notifications.block_id(client, notify) or NOT_MADE_YET
    for automation in automations.notifications(flows, block):
        yield automations.plan_automation(client, automation)
