"""Whether a deployment's runs could be refused: its parameters against the flow and, for nano3, against the recipes.

What this machine lacks, or has not made yet, is no reason to refuse: the runs happen on a worker, later.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_runspec.config.secret_overrides import find_secrets
from nemo_runspec.errors import ConfigError, ConfigNotFound, RunspecError
from nemotron.deployments.deployment_file import DeploymentEntry
from nemotron.deployments.registration import form_schema
from nemotron.flows.chain import Handle, NewestOf, Preflight
from nemotron.flows.nano3_stages import STAGES, build_pipeline, run_chain
from nemotron.flows.parameters import SHOWN_TO_ALL, StageParameters, chain_parameters
from nemotron.tasks.plan import check_stage
from nemotron.tasks.stage import StageRunner, run_stage

if TYPE_CHECKING:
    from prefect import Flow

NANO3 = "nano3"


class ConfigCheck(Preflight):
    """Takes every artifact for granted; `problems` has what the stages would be refused for."""

    def run(self, name: str, runner: StageRunner = run_stage, /, **inputs: Handle) -> Handle:  # noqa: ARG002
        """Check the stage's config."""
        if self.selects(name):
            try:
                check_stage(self.stage(name), self.stage_options(name), given=set(inputs), refs=self.refs())
            except RunspecError as error:
                self.problems.append(error)
        return NewestOf(stage=name)


def load_flow(entry: DeploymentEntry) -> Flow[..., Any]:
    """The deployment's flow.

    Raises:
        ConfigError: there is none at its entrypoint.
    """
    from prefect.exceptions import MissingFlowError, ScriptError
    from prefect.flows import load_flow_from_entrypoint

    try:
        return load_flow_from_entrypoint(entry.entrypoint, use_placeholder_flow=False)
    except (ImportError, MissingFlowError, ScriptError, OSError, ValueError) as error:
        raise ConfigError(
            f"deployment {entry.name}: entrypoint = {entry.entrypoint!r}: {' '.join(str(error).split())}; expected "
            "module.flow, importable where workers run"
        ) from error


def check_deployment(entry: DeploymentEntry, flow: Flow[..., Any]) -> Iterator[str]:
    """Notes on what this machine lacks for the deployment's runs and for each of its schedules.

    Raises:
        ConfigError: what the runs would be refused for on any machine.
    """
    name = f"{flow.name}/{entry.name}"
    yield from check_parameters(f"deployment {name}", flow, entry.parameters)
    for schedule in entry.schedules:
        parameters = {**entry.parameters, **schedule.parameters}
        yield from check_parameters(f"deployment {name}, schedule {schedule.slug}", flow, parameters)


def check_parameters(origin: str, flow: Flow[..., Any], parameters: Mapping[str, Any]) -> Iterator[str]:
    """As `check_deployment`, for one set of parameters."""
    from prefect.exceptions import ParameterTypeError, SignatureMismatchError
    from prefect.utilities.schema_tools import ValidationError, validate

    for place in find_secrets(dict(parameters)):
        raise ConfigError(f"{origin}: {place} {SHOWN_TO_ALL}")
    try:
        validate(dict(parameters), form_schema(flow), raise_on_error=True, ignore_required=True)
        given = flow.validate_parameters(dict(parameters))
    except (ValidationError, ParameterTypeError, SignatureMismatchError, TypeError) as error:
        raise ConfigError(f"{origin}: {' '.join(str(error).split())}") from error
    if flow.name == NANO3:
        defaults = {key: value.default for key, value in inspect.signature(flow.fn).parameters.items()}
        yield from check_recipes(origin, {**defaults, **given})


def check_recipes(origin: str, parameters: Mapping[str, Any]) -> Iterator[str]:
    """As `check_parameters`, for the configs of nano3's stages."""
    by_stage: dict[str, StageParameters] = {name: parameters[name] for name in STAGES}
    try:
        pipeline = build_pipeline(
            config=parameters["config"],
            run_id=parameters["run_id"] or "check",
            **chain_parameters(by_stage),
            profile=parameters["profile"],
            directory=parameters["directory"],
            project_dir=parameters["project_dir"] and Path(parameters["project_dir"]),
        )
        check = ConfigCheck(**vars(pipeline))
        run_chain(check)
    except RunspecError as error:
        raise ConfigError(f"{origin}: {error}") from error
    for problem in check.problems:
        if isinstance(problem, ConfigError | ConfigNotFound):
            raise ConfigError(f"{origin}: {problem}") from problem
    for problem in check.problems:
        yield f"{origin}: on this machine: {problem}"
