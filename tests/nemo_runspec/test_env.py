from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nemo_runspec.env import load_env_profile

TOML = """
[base]
executor = "local"
env_vars = { A = "1" }
[mine]
extends = "base"
env_vars = { B = "2" }
[lost]
extends = "bsae"
[a]
extends = "b"
[b]
extends = "a"
[wandb]
project = "p"
"""


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    path = tmp_path / "env.toml"
    path.write_text(TOML)
    return path


def test_a_profile_lies_over_the_one_it_extends(env_file: Path) -> None:
    profile = OmegaConf.to_container(load_env_profile("mine", env_file))
    assert profile == {"executor": "local", "env_vars": {"A": "1", "B": "2"}}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mien", "profile 'mien' not found.*Did you mean 'mine'"),
        ("lost", "profile 'lost' extends 'bsae', which is not found.*Did you mean 'base'"),
        ("a", "cyclic extends: a → b → a"),
        ("wandb", "profile 'wandb' not found"),
    ],
)
def test_a_wrong_profile_is_refused(env_file: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_env_profile(name, env_file)


def test_bad_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "env.toml"
    path.write_text("[a]\nb = \n")
    with pytest.raises(ValueError, match=r"bad TOML.*line 2"):
        load_env_profile("a", path)
