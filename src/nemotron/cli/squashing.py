"""`--force-squash`: the stages' container images as squash files on the cluster, made before anything is submitted."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import nemo_runspec
from nemo_runspec.errors import ConfigError
from nemo_runspec.slurm.squash import squash_image
from nemotron.flows.pipelines import new_pipeline
from nemotron.flows.runs import RunRequest
from nemotron.tasks.job_request import effective_profile
from nemotron.tasks.plan import merge_config
from nemotron.tasks.run_slurm import connect


def with_squashed_images(request: RunRequest, home: Path) -> RunRequest:
    """The same with each stage's image replaced by the squash file that was made of it.

    Raises:
        ConfigError: no stage has an image.
        RunspecError: the run would be refused anyway, or enroot failed.
    """
    pipeline = new_pipeline(request, project_dir=home.parent)
    made: dict[str, Path] = {}
    added = []
    for name in pipeline.scripts:
        stage = pipeline.stage(name)
        options = pipeline.stage_options(name)
        profile = effective_profile(merge_config(stage, options, nemo_runspec.parse(stage.script)))
        if profile.executor != "slurm" or not profile.container_image:
            continue
        image = profile.container_image
        if image not in made:
            sys.stderr.write(f"making a squash file of {image}; this takes minutes\n")
            made[image] = squash_image(connect(profile), image, options.work_root(profile).parent)
        prefix = "" if request.script else f"{name}."
        added.append(f"{prefix}run.env.container_image={made[image]}")
    if not made:
        raise ConfigError(
            f"--force-squash: profile {request.profile!r} and the config name no container_image for Slurm; leave the "
            "option out, or give run.env.container_image=IMAGE"
        )
    return replace(request, overrides=(*request.overrides, *added))
