from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nemo_runspec.cli_context import GlobalContext
from nemo_runspec.config import (
    apply_dotlist_overrides,
    build_job_config,
    extract_train_config,
    load_config,
    parse_config,
    save_configs,
)
from nemo_runspec.config.interpolation import resolve_run_interpolations, rewrite_paths_for_remote
from nemo_runspec.errors import ConfigError, ConfigNotFound

CONFIG = {
    "run": {"data": "d:latest"},
    "train": {"iters": 3, "lr": 0.1, "name": "x", "fast": False, "stop": None, "at": "${oc.env:HOME}"},
    "sources": [{"path": "a.txt"}],
}


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.iters=1e3", "train.iters", 1000),
        ("train.lr=1", "train.lr", 1.0),
        ("train.lr=3e-4", "train.lr", 3e-4),
        ("train.name=123", "train.name", "123"),
        ("train.name=a=b: c", "train.name", "a=b: c"),
        ("train.fast=true", "train.fast", True),
        ("train.stop=5", "train.stop", 5),
        ("train.lr=null", "train.lr", None),
        ("train.at=/tmp/a b", "train.at", "/tmp/a b"),
        ("sources[0].path=ü $x.txt", "sources.0.path", "ü $x.txt"),
        ("sources=[{path: b.txt}]", "sources.0.path", "b.txt"),
        ("train={iters: 9}", "train.iters", 9),
        ("+train.extra.deep=4", "train.extra.deep", 4),
        ("+train.iters=many", "train.iters", "many"),
        ("run.env.nodes=2", "run.env.nodes", 2),
        ("run.model=m:v3", "run.model", "m:v3"),
    ],
)
def test_an_override_takes_the_type_of_what_it_replaces(override: str, key: str, value: object) -> None:
    changed = OmegaConf.select(apply_dotlist_overrides(OmegaConf.create(CONFIG), [override]), key)
    assert (changed, type(changed)) == (value, type(value))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("iters=5", "unknown key 'iters'.*Did you mean 'train.iters'"),
        ("train.fast=1", "train.fast is true or false"),
        ("train.iters=true", "train.iters is an integer"),
        ("train.iters=1.5", "got a number \\(1.5\\)"),
        ("train=5", "train is a section"),
        ("train={itres: 9}", "unknown key 'train.itres'"),
        ("train.iters.x=5", "train.iters = 3 is a value"),
        ("sources.path=x", "sources is a list; expected an index like sources.0"),
        ("sources=x", "sources is a list"),
        ("train.iters=[1", "not valid YAML"),
        ("run.dta=d:v1", "Did you mean 'run.data'"),
        ("run.other=5", "unknown key 'run.other'"),
        ("train..iters=5", "expected key=value"),
        ("train.name=${", "overrides 'train.name=\\${'|not valid"),
    ],
)
def test_an_override_that_does_not_fit_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_dotlist_overrides(OmegaConf.create(CONFIG), [override])


def test_overrides_leave_their_config_alone() -> None:
    config = OmegaConf.create(CONFIG)
    apply_dotlist_overrides(config, ["train.iters=9"])
    assert config.train.iters == 3


@pytest.mark.parametrize("text", ["- 1\n", "a: b: c\n", "a: 1\na: 2\n", "just text", "defaults: 3\n", "a: ${b\n"])
def test_a_file_that_is_no_config_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_config(path)


def test_a_missing_default_is_refused_with_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "top.yaml").write_text("defaults: tpo\n")
    with pytest.raises(ConfigNotFound, match=r"defaults: 'tpo'.*have: top\. Did you mean 'top'"):
        load_config(tmp_path / "top.yaml")


def test_the_command_line_wins_over_the_profile(tmp_path: Path) -> None:
    (tmp_path / "default.yaml").write_text("train: {iters: 1}\n")
    ctx = GlobalContext(run="me", dotlist=["run.env.partition=fast", "train.iters=2"])
    profile = OmegaConf.create({"executor": "local", "partition": "slow", "mounts": ["/a:/a"]})
    job = build_job_config(parse_config(ctx, tmp_path), ctx, "r", tmp_path / "t.py", [], env_profile=profile)
    assert (job.run.env.partition, job.run.env.executor, job.train.iters) == ("fast", "local", 2)
    assert (job.run.mode, job.run.profile, job.run.recipe.dir) == ("run", "me", str(tmp_path))


def test_mounts_of_recipe_and_profile_are_joined(tmp_path: Path) -> None:
    config = OmegaConf.create({"run": {"env": {"mounts": ["/a:/a", "/b:/b"]}}})
    profile = OmegaConf.create({"mounts": ["/b:/b", "/c:/c"]})
    job = build_job_config(config, GlobalContext(), "r", tmp_path / "t.py", [], env_profile=profile)
    assert job.run.env.mounts == ["/a:/a", "/b:/b", "/c:/c"]


def test_no_secret_is_saved(tmp_path: Path) -> None:
    ctx = GlobalContext(dotlist=["run.env.env_vars.HF_TOKEN=s3cret"])
    profile = OmegaConf.create({"env_vars": {"WANDB_API_KEY": "s3cret", "PLAIN": "s3cret"}, "account": "seen"})
    job = build_job_config(OmegaConf.create({}), ctx, "r", tmp_path / "t.py", ctx.dotlist, env_profile=profile)
    job_path, train_path = save_configs(job, extract_train_config(job), tmp_path / "job")
    assert job.run.env.env_vars.HF_TOKEN == "s3cret"
    assert "seen" in job_path.read_text()
    assert "s3cret" not in job_path.read_text() + train_path.read_text()


def test_an_unset_run_key_is_refused(tmp_path: Path) -> None:
    config = OmegaConf.create({"project": "${run.wandb.project}"})
    job = build_job_config(config, GlobalContext(), "r", tmp_path / "t.py", [])
    with pytest.raises(ConfigError, match=r"run\.wandb\.project is not set"):
        extract_train_config(job)


def test_run_interpolations_keep_type_and_leave_the_rest() -> None:
    run = {"env": {"nodes": 2}, "a": "${run.env.nodes}x"}
    value = {
        "n": "${run.env.nodes}",
        "text": "n${run.env.nodes}",
        "keep": ["${run.no}", "${art:data}"],
        "a": "${run.a}",
    }
    resolved = {"n": 2, "text": "n2", "keep": ["${run.no}", "${art:data}"], "a": "2x"}
    assert resolve_run_interpolations(value, run) == resolved


def test_run_interpolations_in_a_circle_are_refused() -> None:
    with pytest.raises(ConfigError, match="refers to itself: a → b → a"):
        resolve_run_interpolations("${run.a}", {"a": "${run.b}", "b": "${run.a}"})


def test_paths_are_rewritten_by_path_not_by_prefix() -> None:
    value = ["/repo/x.txt", "/repo2/x.txt", "${oc.env:PWD}/y", "${oc.env:NEMO_RUN_DIR,.}/z", 3]
    rewritten = ["/nemo_run/code/x.txt", "/repo2/x.txt", "/nemo_run/code/y", "/nemo_run/z", 3]
    assert rewrite_paths_for_remote(value, "/repo") == rewritten
