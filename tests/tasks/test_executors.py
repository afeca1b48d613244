"""What every way of running a stage owes its user, held against each: here, and on Slurm by both submitters."""

import os
import stat
from pathlib import Path

import pytest
import yaml
from cluster.cluster import Cluster
from small_recipe import options, write_recipe

from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.errors import StageFailed
from nemo_runspec.profiles import Profile, format_toml
from nemotron.tasks.stage import StageResult, run_stage
from nemotron.tasks.stage_options import Stage

NASTY = "spaces  'single' \"double\" $(touch pwned) `id` ${HOME} \\ first\nsecond ü€ #!%j"
CANARY = "canary-7f3a9"


@pytest.fixture(params=["local", "submitit", "nemo-run"])
def profile(request: pytest.FixtureRequest) -> Profile:
    """How the stage is run; both Slurm ones on the real cluster."""
    common = {"env_vars": {"NASTY": NASTY, "SOME_LOGIN": CANARY}}
    if request.param == "local":
        return Profile(executor="local", **common)
    return Profile(executor="slurm", submitter=request.param, mem="300M", time="5", poll_interval_s=1, **common)


@pytest.fixture
def project(
    tmp_path: Path,
    slurm: Cluster,  # noqa: ARG001
    profile: Profile,
    monkeypatch: pytest.MonkeyPatch,
    nemo_run_cache: Path,
) -> Path:
    """A project directory whose env.toml has the profile as `it`."""
    (tmp_path / "env.toml").write_text(format_toml("it", profile))
    (tmp_path / ".nemotron").mkdir()
    (tmp_path / ".nemotron" / "rendered").symlink_to(nemo_run_cache)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def nemo_run_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What NeMo-Run rendered for one test serves the next: it takes seconds to start."""
    return tmp_path_factory.mktemp("rendered")


def run(project: Path, stage: Stage, *overrides: str, run_id: str = "run-1") -> StageResult:
    return run_stage(stage, options(project, *overrides, run_id=run_id, profile="it"), {})


class TestEveryExecutor:
    def test_publishes_once_and_is_reused_after(self, project: Path) -> None:
        stage = write_recipe(project)
        first, second = run(project, stage), run(project, stage, run_id="run-2")
        store = ArtifactStore(project / ".nemotron" / "artifacts")
        assert (store.materialize(first.ref) / "text").read_text() == "hello"
        assert (second.ref, second.reused, second.jobs) == (first.ref, True, ())

    def test_hands_values_to_the_script_as_they_are(self, project: Path) -> None:
        body = "(out / 'env').write_text(os.environ['NASTY'], newline='')"
        config = yaml.safe_dump({"text": NASTY.replace("${", "\\${"), "sources": []})
        result = run(project, write_recipe(project, body=body, config=config))
        folder = ArtifactStore(project / ".nemotron" / "artifacts").materialize(result.ref)
        assert (folder / "env").read_bytes().decode() == NASTY
        assert (folder / "text").read_bytes().decode() == NASTY
        assert not list(project.rglob("pwned"))

    def test_tells_in_one_line_what_the_script_says_is_wrong_and_does_not_try_again(self, project: Path) -> None:
        stage = write_recipe(project, body="open('../tries', 'a').write('x'); raise DataError('bad input; mend it')")
        with pytest.raises(StageFailed, match="bad input; mend it") as error:
            run(project, stage)
        assert not error.value.may_retry

    def test_tells_of_a_crash_with_its_log(self, project: Path) -> None:
        stage = write_recipe(project, body="print('the last words', flush=True); os._exit(7)")
        with pytest.raises(StageFailed, match="the last words") as error:
            run(project, stage)
        assert "7" in str(error.value)
        assert "log.txt" in str(error.value)

    def test_keeps_secrets_out_of_every_file_that_others_can_read(self, project: Path) -> None:
        run(project, write_recipe(project))
        leaks = [
            str(path.relative_to(project))
            for path in project.rglob("*")
            if path.is_file() and not path.is_symlink() and path.name != "env.toml"
            if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH) and CANARY.encode() in path.read_bytes()
        ]
        assert leaks == []

    def test_is_not_changed_by_what_its_parent_inherited_from_an_allocation(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SLURM_NNODES", "64")
        monkeypatch.setenv("SBATCH_PARTITION", "no-such-partition")
        monkeypatch.setenv("SLURM_JOB_ID", "1")
        assert run(project, write_recipe(project)).reused is False


@pytest.mark.parametrize("profile", ["submitit"], indirect=True)
class TestSlurm:
    def test_the_code_of_a_job_is_that_of_its_submission(self, project: Path) -> None:
        stage = write_recipe(project, body="print(Path(__file__))")
        result = run(project, stage)
        attempt = Path(result.work_dir) / "attempts" / "a1"
        assert str(attempt / "code") in (attempt / "log.txt").read_text()
        assert (attempt / "code" / "nemo_runspec" / "script.py").exists()

    def test_the_files_with_the_environment_are_for_the_user_alone(self, project: Path) -> None:
        result = run(project, write_recipe(project))
        env_file = Path(result.work_dir) / "attempts" / "a1" / "env.sh"
        assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
        assert CANARY in env_file.read_text()

    def test_what_became_of_the_job_is_in_the_result(self, project: Path) -> None:
        (job,) = run(project, write_recipe(project)).jobs
        assert (job.ending, job.exit_code, job.nodes[:4]) == ("COMPLETED", "0:0", "node")
        assert job.run_s >= 0

    def test_a_crash_without_a_reason_gets_another_attempt_and_may_succeed(self, project: Path) -> None:
        body = "marker = Path(os.environ['NEMO_RUN_DIR']) / 'tried'; marker.exists() or (marker.touch(), os._exit(9))"
        result = run(project, write_recipe(project, body=body))
        assert [job.ending for job in result.jobs] == ["FAILED", "COMPLETED"]

    def test_a_job_that_slurm_refuses_is_told_in_its_words(self, project: Path, profile: Profile) -> None:
        refused = profile.model_copy(update={"partition": "no-such"})
        (project / "env.toml").write_text(format_toml("it", refused))
        with pytest.raises(StageFailed, match=r"REFUSED.*invalid partition"):
            run(project, write_recipe(project))

    def test_a_job_directory_that_no_shell_script_should_see_is_refused(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = project / "a b$(x)"
        folder.mkdir()
        monkeypatch.chdir(folder)
        os.symlink(project / "env.toml", folder / "env.toml")
        with pytest.raises(Exception, match="set remote_job_dir in the profile"):
            run(folder, write_recipe(folder))
