"""The deployments in a prefect.yaml, read strictly: what is not known is refused with the deployment's name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nemo_runspec.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from prefect.client.schemas.actions import DeploymentScheduleCreate

FILE_NAME = "prefect.yaml"
PROJECT_VARIABLE = "NEMOTRON_PROJECT"
_VARIABLE = re.compile(r"\{\{ *\$([A-Za-z_]\w*) *\}\}")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WorkPool(_Strict):
    """Whose workers run it."""

    name: str
    work_queue_name: str | None = None
    job_variables: dict[str, Any] = {}


class ConcurrencyLimit(_Strict):
    """How many runs at a time, and what becomes of one more."""

    limit: int = Field(ge=1)
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"] = "ENQUEUE"
    grace_period_seconds: int | None = None


class ScheduleEntry(_Strict):
    """When it is run by itself; `active` counts for a schedule that is new, later it is switched in the UI."""

    slug: str
    cron: str | None = None
    rrule: str | None = None
    interval: float | None = Field(default=None, gt=0, description="Seconds")
    timezone: str = "UTC"
    active: bool = True
    parameters: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check_one(self) -> ScheduleEntry:
        if [self.cron, self.rrule, self.interval].count(None) != 2:
            raise ValueError("expected one of cron, rrule and interval")
        self.create()
        return self

    def create(self, *, active: bool | None = None) -> DeploymentScheduleCreate:
        """It for the API."""
        from prefect.client.schemas.actions import DeploymentScheduleCreate
        from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

        schedule: CronSchedule | IntervalSchedule | RRuleSchedule
        if self.cron is not None:
            schedule = CronSchedule(cron=self.cron, timezone=self.timezone)
        elif self.rrule is not None:
            schedule = RRuleSchedule(rrule=self.rrule, timezone=self.timezone)
        else:
            assert self.interval is not None
            schedule = IntervalSchedule(interval=timedelta(seconds=self.interval), timezone=self.timezone)
        return DeploymentScheduleCreate(
            schedule=schedule,
            slug=self.slug,
            parameters=self.parameters,
            active=self.active if active is None else active,
        )


class DeploymentEntry(_Strict):
    """One deployment."""

    name: str
    entrypoint: str
    work_pool: WorkPool
    description: str = ""
    tags: list[str] = []
    parameters: dict[str, Any] = {}
    enforce_parameter_schema: bool = True
    concurrency_limit: ConcurrencyLimit | None = None
    schedules: list[ScheduleEntry] = []
    pull: list[dict[str, Any]] = []


def find_file(project: Path, given: Path | None) -> Path:
    """The file that is given, else the project's own prefect.yaml, else the one that comes with this package."""
    if given is not None:
        return given
    own = project / FILE_NAME
    return own if own.is_file() else Path(str(files("nemotron.deployments"))) / FILE_NAME


def read_file(path: Path, environ: Mapping[str, str]) -> list[DeploymentEntry]:
    """The deployments with their `{{ $NAME }}` filled in from `environ`.

    Raises:
        ConfigError: no such file, not YAML, or a deployment that is not what it should be.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; --file names another") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    found = content.get("deployments") if isinstance(content, dict) else None
    if not isinstance(found, list) or not found:
        raise ConfigError(f"{path}: expected deployments: with a list of them")
    common = {"pull": content.get("pull") or []}
    return [
        _parse(_fill_in({**common, **item} if isinstance(item, dict) else item, environ, path), path, number)
        for number, item in enumerate(found, 1)
    ]


def _parse(item: Any, path: Path, number: int) -> DeploymentEntry:
    if not isinstance(item, dict):
        raise ConfigError(f"{path}: deployment {number} = {item!r}; expected a mapping with name, entrypoint, …")
    try:
        return DeploymentEntry.model_validate(item)
    except ValidationError as error:
        what = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in what["loc"])
        own = DeploymentEntry.model_fields
        guess = did_you_mean(place, own) if what["type"] == "extra_forbidden" else ""
        value = f" = {what['input']!r}" if not isinstance(what["input"], dict) else ""
        raise ConfigError(
            f"{path}: deployment {item.get('name') or number}: {place}{value}: {what['msg']}.{guess}"
        ) from None


def _fill_in(value: Any, environ: Mapping[str, str], path: Path) -> Any:
    """As `prefect deploy` does it, but that a variable which is not set is an error."""

    def look_up(found: re.Match[str]) -> str:
        if found[1] not in environ:
            raise ConfigError(f"{path}: {found[0]}: the variable is not set; set it, or write the value there")
        return environ[found[1]]

    if isinstance(value, dict):
        return {key: _fill_in(item, environ, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill_in(item, environ, path) for item in value]
    return _VARIABLE.sub(look_up, value) if isinstance(value, str) else value
