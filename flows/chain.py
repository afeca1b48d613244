"""What a pipeline does with its stages: which run, with which options, and what is handed from one to the next.

Knows no Prefect. A flow gives the order of its stages; a `Pipeline` runs each or, where it is not selected, takes the
newest artifact it made before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import nemo_runspec
from nemo_runspec.artifacts import ArtifactRef
from nemo_runspec.errors import ConfigError, RequirementError, RunspecError, did_you_mean
from nemo_runspec.profiles import Profile
from nemo_runspec.slurm.spec import JobSpec
from nemo_runspec.submitters import render
from nemotron.tasks.frozen_refs import Decision, FrozenRefs, frozen_refs
from nemotron.tasks.plan import check_stage, output_name
from nemotron.tasks.stage import StageResult, StageRunner, run_stage
from nemotron.tasks.stage_options import Stage, StageOptions


def split_overrides(overrides: tuple[str, ...], stages: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """`sft.train.train_iters=50` → {"sft": ("train.train_iters=50",)}.

    Raises:
        ConfigError: an override without `=`, or one that does not begin with the name of a stage.
    """
    by_stage: dict[str, list[str]] = {}
    for item in overrides:
        key, equals, _ = item.partition("=")
        stage, dot, _ = key.partition(".")
        if not equals or not dot:
            raise ConfigError(f"override {item!r}: expected STAGE.key=value, as in sft.train.train_iters=50")
        if stage not in stages:
            raise ConfigError(
                f"override {item!r}: unknown stage {stage!r}; have: {', '.join(stages)}.{did_you_mean(stage, stages)}"
            )
        by_stage.setdefault(stage, []).append(item[len(stage) + 1 :])
    return {stage: tuple(items) for stage, items in by_stage.items()}


def check_stages(selected: tuple[str, ...], stages: tuple[str, ...]) -> None:
    """Raise ConfigError for a selected stage that the pipeline does not have."""
    for name in selected:
        if name not in stages:
            raise ConfigError(
                f"--stages: unknown stage {name!r}; have: {', '.join(stages)}.{did_you_mean(name, stages)}"
            )


def check_run_id(run_id: str) -> None:
    """Raise ConfigError for an id that may not be part of a job's name and of a directory's."""
    if not _RUN_ID.fullmatch(run_id):
        raise ConfigError(f"run_id = {run_id!r}: expected 1 to 100 letters, digits and . _ -; give another, or none")


@dataclass(frozen=True, kw_only=True)
class NewestOf:
    """The newest artifact of a stage that is not selected, looked up only where a selected stage needs it."""

    stage: str


_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Handle = ArtifactRef | NewestOf
"""What one line of a chain hands to the next."""


@dataclass(kw_only=True)
class Pipeline:
    """One run of a recipe's stages; `results` fills up in order."""

    recipe_dir: Path
    scripts: Mapping[str, str]
    options: StageOptions
    selected: tuple[str, ...] = ()
    overrides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    configs: Mapping[str, str] = field(default_factory=dict)
    results: list[StageResult] = field(default_factory=list)

    def run(self, name: str, runner: StageRunner = run_stage, /, **inputs: Handle) -> Handle:
        """Run the named stage on `inputs` (slot → artifact) and return its artifact."""
        if not self.selects(name):
            return NewestOf(stage=name)
        result = runner(self.stage(name), self.stage_options(name), self.resolve(inputs))
        self.results.append(result)
        return result.ref or NewestOf(stage=name)

    def selects(self, name: str) -> bool:
        """Whether the stage is to run; all are where none is named."""
        return not self.selected or name in self.selected

    def stage(self, name: str) -> Stage:
        """The stage of that name."""
        return Stage(name=name, script=self.recipe_dir / self.scripts[name])

    def stage_options(self, name: str) -> StageOptions:
        """The pipeline's options with the stage's own config and overrides."""
        config = self.configs.get(name, self.options.config)
        return replace(self.options, config=config, overrides=self.overrides.get(name, ()))

    def resolve(self, inputs: Mapping[str, Handle]) -> dict[str, ArtifactRef]:
        """The artifacts themselves."""
        return {slot: self._newest(it) if isinstance(it, NewestOf) else it for slot, it in inputs.items()}

    def _newest(self, wanted: NewestOf) -> ArtifactRef:
        name = output_name(nemo_runspec.parse(self.stage(wanted.stage).script))
        return self.refs().resolve(f"{name}:latest")

    def refs(self) -> FrozenRefs:
        """What references mean in this run."""
        return frozen_refs(self.options)


@dataclass(kw_only=True)
class Preflight(Pipeline):
    """Goes through a chain and starts nothing; finds what `Pipeline` would refuse only when a stage's turn comes."""

    problems: list[RunspecError] = field(default_factory=list)
    requests: list[tuple[Profile, JobSpec]] = field(default_factory=list)
    decisions: dict[str, Decision] = field(default_factory=dict)

    def run(self, name: str, runner: StageRunner = run_stage, /, **inputs: Handle) -> Handle:  # noqa: ARG002
        """Check the stage, and that its inputs are there or will be made."""
        if self.selects(name):
            made = {slot for slot, it in inputs.items() if isinstance(it, NewestOf) and self.selects(it.stage)}
            try:
                present = self.resolve({slot: it for slot, it in inputs.items() if slot not in made})
                asked = check_stage(
                    self.stage(name), self.stage_options(name), given=made | set(present), refs=self.refs()
                )
                if asked is not None:
                    self.requests.append(asked)
            except RunspecError as error:
                self.problems.append(error)
        return NewestOf(stage=name)

    def refs(self) -> FrozenRefs:
        """What they would mean; kept once it is known that nothing is refused."""
        return frozen_refs(self.options, manner="check", pending=self.decisions)

    def refuse(self) -> None:
        """Raise the problem to solve first, if there is one: what the machine lacks, else that of the first stage."""
        if self.problems:
            raise min(self.problems, key=lambda problem: not isinstance(problem, RequirementError))

    def render_jobs(self) -> None:
        """Render all stages' batch scripts at once, because NeMo-Run takes seconds to start; a stage finds its own.

        Raises:
            RunspecError: one of them cannot be rendered.
        """
        for submitter in sorted({profile.submitter for profile, _ in self.requests}):
            specs = [spec for profile, spec in self.requests if profile.submitter == submitter]
            render(specs, submitter=submitter, cache_dir=self.options.render_cache)


def check_all(pipeline: Pipeline, walk: Callable[[Pipeline], None]) -> None:
    """Refuse now what a stage would be refused for in its turn; `walk` has each stage done by the pipeline it is given.

    What is not refused has its references decided from now on.

    Raises:
        RunspecError: unknown config, profile or key; something that a stage needs and this machine lacks.
    """
    preflight = Preflight(**vars(pipeline))
    walk(preflight)
    preflight.refuse()
    preflight.render_jobs()
    preflight.refs().keep()
