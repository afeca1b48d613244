from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nemo_runspec.cli_context import GlobalContext, split_unknown_args
from nemo_runspec.config import (
    apply_dotlist_overrides,
    build_job_config,
    extract_train_config,
    find_config_file,
    generate_job_dir,
    load_config,
)
from nemo_runspec.errors import ConfigError

CONFIG = {"train": {"train_iters": 3, "name": "x"}, "sources": [{"path": "a.txt"}]}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_merged_below_the_file_that_names_them(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "a: 1\nb: 1\n")
    write(tmp_path / "mid.yaml", "defaults: base\nb: 2\n")
    top = write(tmp_path / "top.yaml", "defaults: [mid]\nc: 3\n")
    assert OmegaConf.to_container(load_config(top)) == {"a": 1, "b": 2, "c": 3}


def test_cyclic_defaults_are_refused_with_the_cycle(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "defaults: b\n")
    write(tmp_path / "b.yaml", "defaults: a\n")
    with pytest.raises(ValueError, match=r"cyclic defaults: a\.yaml → b\.yaml → a\.yaml"):
        load_config(tmp_path / "a.yaml")


def test_bad_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"bad\.yaml:2: bad YAML"):
        load_config(write(tmp_path / "bad.yaml", "a: 1\nb: c: d\n"))


def test_a_missing_config_is_refused_with_what_there_is(tmp_path: Path) -> None:
    write(tmp_path / "tiny.yaml", "a: 1\n")
    with pytest.raises(FileNotFoundError, match=r"'tyni': no such file; tried: .*have: tiny\. Did you mean 'tiny'"):
        find_config_file("tyni", tmp_path)


def test_overrides_keep_the_type_of_their_text() -> None:
    config = apply_dotlist_overrides(OmegaConf.create(CONFIG), ["train.train_iters=50", "sources.0.path=/a b"])
    assert config.train.train_iters == 50
    assert config.sources[0].path == "/a b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trian.train_iters=5", "Did you mean 'train.train_iters'"),
        ("train.train_itres=5", "Did you mean 'train.train_iters'"),
        ("train.train_iters=many", "is an integer \\(3\\), got text"),
        ("sources.1.path=x", "index 1 is out of range"),
        ("train", "expected key=value"),
        ("=3", "expected key=value"),
    ],
)
def test_a_wrong_override_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_dotlist_overrides(OmegaConf.create(CONFIG), [override])


def test_the_train_config_has_references_but_no_provenance(tmp_path: Path) -> None:
    config = OmegaConf.create(
        {"run": {"data": "d:v0"}, "path": "${run.recipe.dir}/x", "at": "${art:data,path}", "lr": 1.0}
    )
    job = build_job_config(config, GlobalContext(dotlist=["lr=2.0"]), "nano3/sft", str(tmp_path / "t.py"), ["x"])
    train = OmegaConf.to_container(extract_train_config(job), resolve=False)
    assert train == {"run": {"data": "d:v0"}, "path": f"{tmp_path}/x", "at": "${art:data,path}", "lr": 2.0}


def test_a_profile_yields_to_the_recipe_in_its_own_shape(tmp_path: Path) -> None:
    config = OmegaConf.create({"run": {"env": {"nproc_per_node": 2, "env_vars": {"A": "yaml", "B": "1"}}}})
    profile = OmegaConf.create({"nproc_per_node": 8, "env_vars": {"A": "profile"}})
    job = build_job_config(config, GlobalContext(), "r", str(tmp_path / "t.py"), [], env_profile=profile)
    assert job.run.env.nproc_per_node == 2
    assert job.run.env.env_vars == {"A": "profile", "B": "1"}


def test_two_jobs_in_one_second_have_two_directories(tmp_path: Path) -> None:
    assert len({generate_job_dir("nano3/sft", tmp_path) for _ in range(20)}) == 20


@pytest.mark.parametrize("spelling", [["-r", "me"], ["--run", "me"], ["--run=me"], ["-rme"]])
def test_a_late_global_option_is_found_in_every_spelling(spelling: list[str]) -> None:
    dotlist, passthrough, ctx = split_unknown_args(["a=1", *spelling, "--", "--x"])
    assert (dotlist, passthrough, ctx.run, ctx.mode) == (["a=1"], ["--x"], "me", "run")


def test_an_option_without_its_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a value"):
        split_unknown_args(["-r"])
