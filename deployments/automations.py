"""What the server does by itself: declares silent runs dead, and tells somebody of what needs a human."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from nemotron.deployments.registration import Change, compare

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.actions import ActionTypes
    from prefect.events.schemas.automations import AutomationCore, EventTrigger

SILENT_FOR = timedelta(minutes=10)
"""Ten heartbeats: less, and a server that comes back after an outage declares runs dead that are alive."""
HANGS_AFTER = timedelta(minutes=4)
"""After five minutes Prefect itself says Cancelled, whether anything has ended or not."""
CRASH, FAILED, WAITS, HANGS = (
    "nemotron: crash silent runs",
    "nemotron: tell of failed runs",
    "nemotron: tell of runs that wait for approval",
    "nemotron: tell of cancels that hang",
)
ENDS = ("Completed", "Failed", "TimedOut", "Crashed", "Cancelled")
SUBJECT = "{{ flow.name }} {{ flow_run.name }}: %s"
BODY = "{{ flow_run.state.message or '' }}\n{{ flow_run | ui_url }}"


def plan_automation(client: SyncPrefectClient, wanted: AutomationCore) -> Change:
    """Have the automation; one that somebody has switched off stays so."""
    found = next(iter(client.read_automations_by_name(wanted.name)), None)

    def apply() -> None:
        if found is None:
            client.create_automation(wanted)
        else:
            client.update_automation(found.id, wanted.model_copy(update={"enabled": found.enabled}))

    return compare(f"automation {wanted.name!r}", _describe(wanted), _describe(found) if found else None, apply)


def plan_removal(client: SyncPrefectClient, name: str) -> Change | None:
    """Have no such automation; None if there is none."""
    found = client.read_automations_by_name(name)
    if not found:
        return None

    def apply() -> None:
        for automation in found:
            client.delete_automation(automation.id)

    return Change(what=f"automation {name!r}", how="removed", apply=apply)


def crash_silent_runs(flows: Sequence[str]) -> AutomationCore:
    """Runs of these flows of which nothing is heard any more get the state Crashed, from which they can be retried."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState

    action = ChangeFlowRunState(
        name=None,
        state=StateType.CRASHED,
        message=f"Silent for {_minutes(SILENT_FOR)}: its process or machine is gone, or cut off. Its Slurm jobs go on; "
        "a retry takes them up again.",
        force=False,
    )
    after = ("heartbeat",)
    trigger = absence(flows, after=after, expect=(*after, *ENDS), within=SILENT_FOR)
    return _automation(CRASH, "Its worker and its machine may be gone, so nobody else says so.", trigger, action)


def notifications(flows: Sequence[str], block: UUID) -> list[AutomationCore]:
    """What somebody is told of, by that block."""
    from prefect.events.actions import SendNotification

    def tell(what: str) -> SendNotification:
        return SendNotification(block_document_id=block, subject=SUBJECT % what, body=BODY)

    failed = presence(flows, ("Failed", "TimedOut", "Crashed"))
    hangs = absence(flows, after=("Cancelling",), expect=ENDS, within=HANGS_AFTER)
    return [
        _automation(FAILED, "It may be retried.", failed, tell("{{ flow_run.state.name }}")),
        _automation(WAITS, "Somebody is to approve it.", presence(flows, ("Paused",)), tell("waits for approval")),
        _automation(HANGS, "Its jobs may still run.", hangs, tell(f"cancelling for {_minutes(HANGS_AFTER)}")),
    ]


def presence(flows: Sequence[str], events: Sequence[str]) -> EventTrigger:
    """When one of the events happens to a run."""
    from prefect.events.schemas.automations import EventTrigger, Posture

    return EventTrigger(posture=Posture.Reactive, threshold=1, **_of_runs(flows, expect=events))


def absence(flows: Sequence[str], *, after: Sequence[str], expect: Sequence[str], within: timedelta) -> EventTrigger:
    """When none of the events happens to a run within that time after one of those before."""
    from prefect.events.schemas.automations import EventTrigger, Posture

    return EventTrigger(
        posture=Posture.Proactive, threshold=1, within=within, **_of_runs(flows, expect=expect, after=after)
    )


def _of_runs(flows: Sequence[str], **events: Sequence[str]) -> dict[str, Any]:
    names = {key: {f"prefect.flow-run.{event}" for event in given} for key, given in events.items()}
    return {
        **names,
        "for_each": {"prefect.resource.id"},
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {"prefect.resource.role": "flow", "prefect.resource.name": list(flows)},
    }


def _automation(name: str, description: str, trigger: EventTrigger, action: ActionTypes) -> AutomationCore:
    from prefect.events.schemas.automations import AutomationCore

    return AutomationCore(name=name, description=description, trigger=trigger, actions=[action])


def _describe(automation: AutomationCore) -> dict[str, Any]:
    """What is to be compared; sets as sorted lists."""
    return {
        key: _sorted(value)
        for key, value in automation.model_dump(mode="json", include={"description", "trigger", "actions"}).items()
    }


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(item) for key, item in value.items()}
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return sorted(value)
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _minutes(time: timedelta) -> str:
    return f"{time.total_seconds() / 60:.0f} minutes"
