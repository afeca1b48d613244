"""What a run would do, stage by stage: nothing is started and nothing written."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

import nemo_runspec
from nemo_runspec.artifacts import ArtifactRef, ArtifactStore
from nemo_runspec.config import extract_train_config
from nemo_runspec.config.loading import find_config_file, load_layers
from nemo_runspec.config.origins import Layer, Overridden, dotlist_layer, find_overridden
from nemo_runspec.config.provenance import is_secret
from nemo_runspec.env import get_artifacts_config, get_wandb_config
from nemo_runspec.errors import RunspecError
from nemo_runspec.mirror.intake import NotTakenYet
from nemo_runspec.profiles import Profile
from nemo_runspec.slurm.job_script import render_job_script
from nemo_runspec.slurm.ledger import Attempt, Intent, attempt_key, attempts
from nemotron.flows.chain import Handle, NewestOf, Pipeline
from nemotron.tasks.frozen_refs import FrozenRefs, frozen_refs
from nemotron.tasks.job_files import build_job_files, job_environment
from nemotron.tasks.plan import (
    StagePlan,
    check_stage,
    merge_config,
    plain_container,
    plan_stage,
    profile_for,
    profile_of_run,
)
from nemotron.tasks.run_local import local_command
from nemotron.tasks.run_slurm import sbatch_options
from nemotron.tasks.stage import StageRunner, find_reusable, run_stage
from nemotron.tasks.stage_options import Stage, StageOptions

COMMAND_LINE = "the command line"
_OWN_KEYS = frozenset({"mode", "profile", "cli", "recipe", "created", "git", "packages"})


@dataclass(frozen=True, kw_only=True)
class JobPreview:
    """What would be started: `files` by name (a local command has none), `command` as a shell takes it.

    `follows` is the job that is there already and would be waited for instead.
    """

    command: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    profile: Profile
    follows: str | None = None


@dataclass(kw_only=True)
class StagePreview:
    """What would become of a stage; `waits_for` are the stages that make its inputs, `refused` why it cannot run."""

    name: str
    config: DictConfig | None = None
    overridden: tuple[Overridden, ...] = ()
    inputs: Mapping[str, ArtifactRef] = field(default_factory=dict)
    waits_for: tuple[str, ...] = ()
    reuses: ArtifactRef | None = None
    made_by: str = ""
    job: JobPreview | None = None
    refused: RunspecError | None = None

    def show(self, config: DictConfig, options: StageOptions, runspec: nemo_runspec.Runspec) -> None:
        """The config is known now."""
        self.config = config
        self.overridden = tuple(find_origins(config, options, runspec))


@dataclass(kw_only=True)
class Preview(Pipeline):
    """Goes through a chain and looks only."""

    stages: list[StagePreview] = field(default_factory=list)

    def run(self, name: str, runner: StageRunner = run_stage, /, **inputs: Handle) -> Handle:  # noqa: ARG002
        """Look at the stage; gives the artifact that it would reuse."""
        if not self.selects(name):
            return NewestOf(stage=name)
        preview = StagePreview(name=name)
        self.stages.append(preview)
        try:
            self.look(preview, self.stage(name), self.stage_options(name), inputs)
        except RunspecError as error:
            preview.refused = error
        return preview.reuses or NewestOf(stage=name)

    def refs(self) -> FrozenRefs:
        """What they would mean; decides nothing."""
        return frozen_refs(self.options, manner="look")

    def look(self, preview: StagePreview, stage: Stage, options: StageOptions, inputs: Mapping[str, Handle]) -> None:
        """Fill in what is known."""
        runspec = nemo_runspec.parse(stage.script)
        pending = {it.stage for it in inputs.values() if isinstance(it, NewestOf) and self.selects(it.stage)}
        store = ArtifactStore(options.store_root)
        try:
            plan = None if pending else plan_stage(stage, options, self.resolve(inputs), store, self.refs())
        except NotTakenYet:
            preview.show(merge_config(stage, options, runspec), options, runspec)
            preview.waits_for = ("W&B",)
            return
        except RunspecError:
            preview.show(merge_config(stage, options, runspec), options, runspec)
            raise
        preview.show(plan.job_config if plan else merge_config(stage, options, runspec), options, runspec)
        if plan is None:
            preview.waits_for = tuple(pending)
            check_stage(stage, options, given=inputs, refs=self.refs())
            return
        preview.inputs = plan.inputs
        extract_train_config(plan.job_config)
        if ref := find_reusable(plan, options, store):
            preview.reuses, preview.made_by = ref, store.record(ref).producer.run_id
        preview.job = preview_job(plan, options)


def find_origins(config: DictConfig, options: StageOptions, runspec: nemo_runspec.Runspec) -> list[Overridden]:
    """Where the values of the config come from, if not from one file alone."""
    merged = plain_container(config)
    merged["run"] = {key: value for key, value in (merged.get("run") or {}).items() if key not in _OWN_KEYS}
    path = find_config_file(options.config, runspec.config_dir)
    layers: list[Layer] = [(_shown(file), plain_container(layer)) for file, layer in load_layers(path)]
    for section, place, table in (
        ("wandb", "run.wandb", get_wandb_config()),
        ("artifacts", "artifacts", get_artifacts_config()),
    ):
        if table is not None:
            layers.append((f"[{section}] of env.toml", _nest(place, plain_container(table))))
    profile_name = f"profile {options.profile}"
    if options.profile:
        found = profile_for(runspec, profile_of_run(options.profile, options.run_id, options.project_dir))
        layers.append((profile_name, _nest("run.env", plain_container(found))))
    layers.append((COMMAND_LINE, dotlist_layer(options.overrides, merged)))
    return find_overridden(merged, layers, own=frozenset({COMMAND_LINE, profile_name}))


def preview_job(plan: StagePlan, options: StageOptions) -> JobPreview:
    """What would be started, with the paths that it would have."""
    if plan.profile.executor == "slurm":
        return _preview_slurm(plan, options)
    train = options.home / "jobs" / f"TIME-{plan.stage.name}" / "train.yaml"
    return JobPreview(command=tuple(local_command(plan, options, train)), profile=plan.profile)


def _preview_slurm(plan: StagePlan, options: StageOptions) -> JobPreview:
    known = attempts(plan.work_dir)
    last = known[-1] if known else None
    live = last if last and last.verdict() is None and not last.is_cancelled() else None
    number = live.intent.number if live else len(known) + 1
    folder = plan.work_dir.absolute() / "attempts" / f"a{number}"
    intent = Intent(
        key=attempt_key(options.run_id, plan.stage.name, plan.fingerprint, number),
        stage=plan.stage.name,
        run_id=options.run_id,
        profile=options.profile or "",
        number=number,
        created=0,
    )
    attempt = Attempt(folder=folder, intent=intent)
    files = build_job_files(plan, options, job_environment(plan, options), folder)
    return JobPreview(
        command=("sbatch", "--parsable", *sbatch_options(attempt, plan.profile), str(folder / "job.sh")),
        files={
            "job.sh": render_job_script(files.rendered, attempt),
            "payload.sh": files.payload_sh,
            "env.sh": _hide_values(files.variables, plan.profile),
        },
        profile=plan.profile,
        follows=f"job {live.job_id() or live.intent.key} of run {live.intent.run_id}" if live else None,
    )


def _hide_values(variables: Mapping[str, str], profile: Profile) -> str:
    """The exports, with *** for what the profile sets and what is named like a secret."""
    shown = {
        name: "***" if name in profile.env_vars or is_secret(name) else shlex.quote(value)
        for name, value in variables.items()
    }
    return "\n".join(f"export {name}={value}" for name, value in shown.items())


def _nest(place: str, table: Mapping[str, Any]) -> dict[str, Any]:
    for part in reversed(place.split(".")):
        table = {part: table}
    return dict(table)


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return f"{path.parent.name}/{path.name}"
