from collections.abc import Callable

import pytest
from job_specs import ALL

from nemo_runspec.slurm.spec import JobSpec
from nemo_runspec.submitters import Submitter, render


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Submitter, JobSpec], str]:
    """The batch script of one of the specs; NeMo-Run writes all of them in one call of some 5 seconds."""
    cache_dir = tmp_path_factory.mktemp("rendered")

    def render_one(submitter: Submitter, spec: JobSpec) -> str:
        texts = render(ALL, submitter=submitter, cache_dir=cache_dir)
        return texts[ALL.index(spec)]

    return render_one
