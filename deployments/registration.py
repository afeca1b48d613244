"""Work pools and deployments on the Prefect server: what is to change, and the change itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nemotron.deployments.deployment_file import DeploymentEntry
from nemotron.deployments.start_worker import POOL_TYPE, ensure_pool, streams_output

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.responses import DeploymentResponse


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is to become of one thing on the server; `apply` does it, None where nothing is to be done."""

    what: str
    how: str
    apply: Callable[[], object] | None

    def __str__(self) -> str:
        return f"{self.what}: {self.how}"


def compare(
    what: str, wanted: Mapping[str, Any], found: Mapping[str, Any] | None, apply: Callable[[], object]
) -> Change:
    """The change that makes what is found what is wanted."""
    if found is None:
        return Change(what=what, how="created", apply=apply)
    different = [key for key, value in wanted.items() if found.get(key) != value]
    if different:
        return Change(what=what, how=f"changed ({', '.join(different)})", apply=apply)
    return Change(what=what, how="unchanged", apply=None)


def plan_pool(client: SyncPrefectClient, name: str) -> Change:
    """Have the pool; one of another type than ours is left as it is."""
    from prefect.exceptions import ObjectNotFound

    def apply() -> None:
        ensure_pool(client, name)

    wanted = {"stream_output": False}
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        return compare(f"work pool {name}", wanted, None, apply)
    streams = pool.type == POOL_TYPE and streams_output(pool.base_job_template)
    return compare(f"work pool {name}", wanted, {"stream_output": streams}, apply)


def plan_deployment(client: SyncPrefectClient, entry: DeploymentEntry, flow: Flow[..., Any]) -> Change:
    """Have the deployment as the file says it; its schedules stay switched on or off as they are."""
    from prefect.exceptions import ObjectNotFound

    name = f"{flow.name}/{entry.name}"
    found: DeploymentResponse | None = None
    with contextlib.suppress(ObjectNotFound):
        found = client.read_deployment_by_name(name)
    switched = {schedule.slug: schedule.active for schedule in found.schedules} if found else {}
    wanted = build_deployment(entry, flow, switched)

    def apply() -> None:
        client.create_deployment(flow_id=client.create_flow_from_name(flow.name), **wanted)

    return compare(f"deployment {name}", describe(wanted), describe_found(found) if found else None, apply)


def build_deployment(
    entry: DeploymentEntry, flow: Flow[..., Any], switched: Mapping[str | None, bool]
) -> dict[str, Any]:
    """What the client takes; it replaces a deployment of the same name, with all its schedules."""
    from prefect.client.schemas.objects import ConcurrencyOptions

    limit, pool = entry.concurrency_limit, entry.work_pool
    options = limit.model_dump(exclude={"limit"}, exclude_none=True) if limit else None
    return {
        "name": entry.name,
        "entrypoint": entry.entrypoint,
        "description": entry.description,
        "tags": entry.tags,
        "parameters": entry.parameters,
        "parameter_openapi_schema": form_schema(flow),
        "enforce_parameter_schema": entry.enforce_parameter_schema,
        "work_pool_name": pool.name,
        **({"work_queue_name": pool.work_queue_name} if pool.work_queue_name else {}),
        "job_variables": pool.job_variables,
        "pull_steps": entry.pull,
        "concurrency_limit": limit.limit if limit else None,
        "concurrency_options": ConcurrencyOptions(**options) if options else None,
        "schedules": [schedule.create(active=switched.get(schedule.slug)) for schedule in entry.schedules],
    }


def form_schema(flow: Flow[..., Any]) -> dict[str, Any]:
    """What the UI makes a form of, and the server checks parameters against.

    Unlike Prefect's own it refuses a parameter that the flow does not have, and a field that may be None is one to fill
    in or leave empty, not a choice between types: the server takes None for what is not required and has no default.
    """
    from prefect.utilities.callables import parameter_schema

    schema = {**parameter_schema(flow).model_dump(), "additionalProperties": False}
    for model in (schema, *schema["definitions"].values()):
        model["properties"] = {name: _to_fill_in(field) for name, field in model.get("properties", {}).items()}
    return schema


def _to_fill_in(field: dict[str, Any]) -> dict[str, Any]:
    match field:
        case {"anyOf": [{"type": str()} as shown, {"type": "null"}], "default": None, **others} if "enum" not in shown:
            return {**others, **shown}
    return field


def describe(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be compared, as plain data."""
    options = wanted["concurrency_options"]
    return {
        **{key: value for key, value in wanted.items() if key != "name"},
        "tags": sorted(wanted["tags"]),
        "concurrency_options": options.model_dump(mode="json") if options else None,
        "schedules": _describe_schedules(wanted["schedules"]),
    }


def describe_found(found: DeploymentResponse) -> dict[str, Any]:
    """The same of a deployment on the server."""
    limit = found.global_concurrency_limit
    return {
        **found.model_dump(mode="json"),
        "tags": sorted(found.tags),
        "pull_steps": found.pull_steps or [],
        "enforce_parameter_schema": found.enforce_parameter_schema,
        "concurrency_limit": limit.limit if limit else None,
        "schedules": _describe_schedules(found.schedules),
    }


def _describe_schedules(schedules: Sequence[DeploymentScheduleCreate | DeploymentSchedule]) -> list[dict[str, Any]]:
    fields = {"schedule", "slug", "parameters"}
    return sorted((item.model_dump(mode="json", include=fields) for item in schedules), key=lambda item: item["slug"])
