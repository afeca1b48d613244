"""Which pipeline a request means, nano3 or one stage alone, and how it is run: here, or as a Prefect flow."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from nemo_runspec.config.secret_overrides import find_secrets
from nemo_runspec.errors import ConfigError
from nemotron.blocks.profile_lookup import prefect_api_url
from nemotron.flows import nano3_stages
from nemotron.flows.chain import Pipeline, check_all, check_run_id
from nemotron.flows.parameters import SHOWN_TO_ALL, form_parameters
from nemotron.flows.runs import RunRequest
from nemotron.tasks.stage_options import StageOptions

_STAGE_FIELDS = ("recipe", "script", "passthrough")


def new_pipeline(request: RunRequest, *, plain: bool = False, project_dir: Path | None = None) -> Pipeline:
    """The pipeline that is asked for; all that can be refused is refused here, before any stage starts.

    Raises:
        RunspecError: unknown stage, config, profile or key; something that a stage needs and this machine lacks.
    """
    pipeline = build_pipeline(request, plain=plain, project_dir=project_dir)
    check_all(pipeline, lambda preflight: walk(request, preflight))
    return pipeline


def build_pipeline(request: RunRequest, *, plain: bool = False, project_dir: Path | None = None) -> Pipeline:
    """The pipeline that is asked for, not checked yet. The inputs of a stage alone are those that its config names."""
    if request.script is None:
        return nano3_stages.build_pipeline(**nano3_parameters(request), plain=plain, project_dir=project_dir)
    check_run_id(request.run_id)
    name, script = request.stage_name(), Path(request.script)
    return Pipeline(
        recipe_dir=script.parent,
        scripts={name: script.name},
        options=StageOptions(
            config=request.config,
            run_id=request.run_id,
            profile=request.profile,
            passthrough=request.passthrough,
            refresh=request.refresh,
            show_logs=request.show_logs,
            detached=request.detached,
            plain=plain,
            project_dir=project_dir or Path.cwd(),
            directory=Path(request.directory),
        ),
        overrides={name: request.overrides},
    )


def check_shown(request: RunRequest) -> None:
    """Raise ConfigError for an override that holds a secret where a server would show it to all."""
    if prefect_api_url() is None:
        return
    for key in find_secrets(request.overrides):
        raise ConfigError(f"override {key}: {SHOWN_TO_ALL}")


def walk(request: RunRequest, pipeline: Pipeline) -> None:
    """Have each stage in its turn done by the pipeline, without Prefect."""
    if request.script is None:
        nano3_stages.run_chain(pipeline)
    else:
        pipeline.run(request.stage_name())


def run_flow(request: RunRequest, project_dir: Path) -> Pipeline:
    """Run the stages as a flow of the Prefect server that is configured."""
    if request.script is None:
        from nemotron.flows.nano3 import nano3

        done = nano3(**flow_parameters(request), project_dir=project_dir)
    else:
        from nemotron.flows.stage import stage

        done = stage(**asdict(request), project_dir=project_dir)
    assert isinstance(done, Pipeline)  # a state that says otherwise is raised
    return done


def nano3_parameters(request: RunRequest) -> dict[str, Any]:
    """What a nano3 pipeline takes of a request."""
    return {key: value for key, value in asdict(request).items() if key not in _STAGE_FIELDS}


def flow_parameters(request: RunRequest) -> dict[str, Any]:
    """What the nano3 flow takes of a request: the same, as its form has it."""
    parameters = nano3_parameters(request)
    form = {key: parameters.pop(key) for key in ("config", "stages", "overrides")}
    return {**parameters, **form_parameters(**form)}
