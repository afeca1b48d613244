"""A store at a URL, from the environment or env.toml, through a stage's process and back."""

from pathlib import Path

import pytest
from small_recipe import options, write_recipe

import nemo_runspec
from nemo_runspec.artifacts import ArtifactStore
from nemo_runspec.errors import ConfigError, StoreError
from nemo_runspec.profiles import Profile
from nemotron.tasks.job_files import store_access
from nemotron.tasks.job_request import container_mounts
from nemotron.tasks.plan import check_store
from nemotron.tasks.stage import run_stage

READS = 'assert Path(config["data"], "text").read_text() == "hello"'
READER_CONFIG = "text: read\nsources: []\ndata: ${art:data,path}\nrun: {data: 'small-data:latest'}\n"


@pytest.fixture
def url(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NEMOTRON_STORE", f"{s3_bucket}/team")
    return f"{s3_bucket}/team"


def test_a_stage_publishes_to_a_bucket_and_the_next_reads_from_it(url: str, tmp_path: Path) -> None:
    first = run_stage(write_recipe(tmp_path / "a"), options(tmp_path), {})
    reader = write_recipe(tmp_path / "b", body=READS, inputs='data = "SplitJsonlDataArtifact"', config=READER_CONFIG)
    second = run_stage(reader, options(tmp_path), {})
    assert (str(first.ref), str(second.ref)) == ("small-data:v0", "small-data:v1")
    store = ArtifactStore(url)
    assert second.ref is not None
    assert store.record(second.ref).inputs == [first.ref]
    assert not (tmp_path / ".nemotron" / "artifacts").exists()
    assert "botocore" not in (Path(second.work_dir) / "log.txt").read_text()


def test_what_is_in_the_bucket_is_not_made_again(url: str, tmp_path: Path) -> None:
    stage = write_recipe(tmp_path)
    run_stage(stage, options(tmp_path / "one"), {})
    again = run_stage(stage, options(tmp_path / "two", run_id="run-2"), {})
    assert (again.reused, ArtifactStore(url).version_names("small-data")) == (True, ["v0"])


def test_env_toml_names_the_bucket(s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEMOTRON_STORE", raising=False)
    monkeypatch.delenv("NEMOTRON_ENV_FILE", raising=False)
    (tmp_path / "env.toml").write_text(f'[artifacts]\nroot = "{s3_bucket}/of-env"\n')
    result = run_stage(write_recipe(tmp_path), options(tmp_path), {})
    assert ArtifactStore(f"{s3_bucket}/of-env").resolve("small-data") == result.ref


def test_a_relative_root_is_below_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEMOTRON_STORE", raising=False)
    monkeypatch.delenv("NEMOTRON_ENV_FILE", raising=False)
    (tmp_path / "env.toml").write_text('[artifacts]\nroot = "shared/store"\n')
    assert options(tmp_path).store_path == tmp_path / "shared" / "store"


def test_a_store_in_memory_is_refused_for_a_script_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEMOTRON_STORE", "memory://refused")
    with pytest.raises(
        ConfigError,
        match=r"^data_prep: NEMOTRON_STORE = memory://refused is in this process's memory, and the script runs in "
        r"another; give --plain, or a directory or s3://bucket/prefix$",
    ):
        run_stage(write_recipe(tmp_path), options(tmp_path), {})


def test_a_store_in_memory_takes_what_a_plain_run_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOTRON_STORE", "memory://plain")
    monkeypatch.setenv("NEMOTRON_CACHE", str(tmp_path / "cache"))
    result = run_stage(write_recipe(tmp_path), options(tmp_path, plain=True), {})
    assert ArtifactStore("memory://plain").resolve("small-data") == result.ref


def test_a_bucket_that_cannot_be_written_is_found_before_the_work(url: str, tmp_path: Path) -> None:
    store = ArtifactStore(url)
    runspec = nemo_runspec.parse(write_recipe(tmp_path).script)
    check_store(store, runspec)
    assert store.backend.list_names("") == []


def test_a_bucket_that_is_away_is_found_before_the_work(s3_bucket: str, tmp_path: Path) -> None:
    store = ArtifactStore(s3_bucket)
    runspec = nemo_runspec.parse(write_recipe(tmp_path).script)
    store.backend.files.location += "-2"
    with pytest.raises(StoreError, match="there is no bucket"):
        check_store(store, runspec)


@pytest.fixture
def on_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOTRON_STORE", "s3://bucket/team")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.mark.usefixtures("on_s3")
def test_a_job_is_told_how_to_reach_the_bucket(tmp_path: Path) -> None:
    assert store_access(options(tmp_path))["AWS_SECRET_ACCESS_KEY"] == "secret"


@pytest.mark.usefixtures("on_s3")
def test_a_job_is_told_no_credentials_that_it_does_not_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOTRON_STORE", str(tmp_path / "store"))
    assert store_access(options(tmp_path)) == {}


@pytest.mark.usefixtures("on_s3")
def test_a_container_has_no_bucket_mounted(tmp_path: Path) -> None:
    mounts = container_mounts(write_recipe(tmp_path), Profile(executor="slurm"), options(tmp_path))
    assert [mount for mount in mounts if not mount.startswith("/")] == []


@pytest.mark.usefixtures("on_s3")
def test_a_bucket_is_no_directory_that_nodes_must_see(tmp_path: Path) -> None:
    profile = Profile(executor="slurm", remote_job_dir=str(tmp_path / "jobs"))
    assert options(tmp_path).job_folders(profile) == {"remote_job_dir": tmp_path / "jobs" / "work"}
