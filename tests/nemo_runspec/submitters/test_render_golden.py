"""The whole text of each submitter. To accept a change: REFRESH_GOLDEN=1 ./test tests/nemo_runspec/submitters."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from job_specs import GOLDEN, SUBMITTERS

from nemo_runspec.slurm.spec import JobSpec
from nemo_runspec.submitters import Submitter

FOLDER = Path(__file__).parent / "golden"
Rendered = Callable[[Submitter, JobSpec], str]

every_text = pytest.mark.parametrize("name", GOLDEN)
every_submitter = pytest.mark.parametrize("submitter", SUBMITTERS)


def directives(text: str) -> set[str]:
    return set(re.findall(r"^#SBATCH (\S+)", text, re.MULTILINE))


@every_submitter
@every_text
def test_the_script_is_as_recorded(rendered: Rendered, submitter: Submitter, name: str) -> None:
    text = rendered(submitter, GOLDEN[name])
    path = FOLDER / f"{name}.{submitter}.sh"
    if os.environ.get("REFRESH_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"{path} differs; REFRESH_GOLDEN=1 accepts the new text"


@every_text
def test_both_submitters_ask_slurm_for_the_same(rendered: Rendered, name: str) -> None:
    assert directives(rendered("submitit", GOLDEN[name])) == directives(rendered("nemo-run", GOLDEN[name]))


@every_submitter
@every_text
def test_what_the_client_gives_each_attempt_is_left_to_it(rendered: Rendered, submitter: Submitter, name: str) -> None:
    text = rendered(submitter, GOLDEN[name])
    assert text.startswith("#!/bin/bash\n")
    assert not re.search(r"--(job-name|output|error|open-mode|comment|(no-)?requeue|signal|wckey)\b", text)


@every_submitter
@every_text
def test_nothing_is_traced_and_no_variable_of_the_job_is_set(
    rendered: Rendered, submitter: Submitter, name: str
) -> None:
    text = rendered(submitter, GOLDEN[name])
    exported = set(re.findall(r"^export (\w+)", text, re.MULTILINE)) - {"GREETING"}
    assert not re.search(r"set -\w*x", text)
    assert exported <= {"PYTHONUNBUFFERED", "SLURM_UNBUFFEREDIO", "TORCHX_MAX_RETRIES", "SUBMITIT_EXECUTOR"}
