"""What a pipeline does with its stages: which run, with which options, and what is handed from one to the next.

Knows no Prefect. A flow gives the order of its stages; a `Pipeline` runs each or, where it is not selected, takes the
newest artifact it made before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import nemo_runspec
from nemo_runspec.artifacts import ArtifactRef, LocalStore
from nemo_runspec.errors import ConfigError, did_you_mean
from nemotron.tasks.stage import Stage, StageOptions, StageResult, output_name, run_stage, store_root

StageRunner = Callable[[Stage, StageOptions, Mapping[str, ArtifactRef]], StageResult]


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


@dataclass(kw_only=True)
class Pipeline:
    """One run of a recipe's stages; `results` fills up in order."""

    recipe_dir: Path
    scripts: Mapping[str, str]
    options: StageOptions
    selected: tuple[str, ...] = ()
    overrides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    results: list[StageResult] = field(default_factory=list)

    def run(self, name: str, runner: StageRunner = run_stage, /, **inputs: ArtifactRef) -> ArtifactRef:
        """Run the named stage on `inputs` (slot → artifact) and return its artifact."""
        stage = Stage(name=name, script=self.recipe_dir / self.scripts[name])
        if self.selected and name not in self.selected:
            return self._newest(stage)
        options = replace(self.options, overrides=self.overrides.get(name, ()))
        result = runner(stage, options, inputs)
        self.results.append(result)
        return result.ref

    def _newest(self, stage: Stage) -> ArtifactRef:
        name = output_name(nemo_runspec.parse(stage.script))
        return LocalStore(store_root(self.options)).resolve(f"{name}:latest")
