"""The one way in: specs are checked, then rendered by the submitter that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from nemo_runspec.errors import ConfigError, did_you_mean
from nemo_runspec.slurm.spec import JobSpec
from nemo_runspec.submitters.checks import check_spec
from nemo_runspec.submitters.with_nemo_run import render_with_nemo_run
from nemo_runspec.submitters.with_submitit import render_with_submitit

Submitter = Literal["submitit", "nemo-run"]
SUBMITTERS = ("submitit", "nemo-run")


def render(specs: Sequence[JobSpec], *, submitter: Submitter, cache_dir: Path) -> list[str]:
    """The batch script of each spec, in order; an attempt's directory is the word `JOB_DIR` in it.

    It has no directive for name, comment, output, error, open mode, requeueing or signal, and sets no variable of the
    job. All that the tasks print goes to the script's own output.

    Raises:
        ConfigError: an unknown submitter, or a spec that cannot be written as a batch script.
        RequirementError: the submitter is not installed and cannot be installed.
    """
    if submitter not in SUBMITTERS:
        raise ConfigError(
            f"submitter = {submitter!r}; allowed: {', '.join(SUBMITTERS)}.{did_you_mean(submitter, SUBMITTERS)}"
        )
    for spec in specs:
        check_spec(spec)
    if submitter == "submitit":
        return [render_with_submitit(spec) for spec in specs]
    return render_with_nemo_run(specs, cache_dir=cache_dir)
