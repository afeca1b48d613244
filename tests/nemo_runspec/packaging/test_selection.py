"""Packagers by name, and what they refuse alike."""

from pathlib import Path

import pytest

from nemo_runspec.errors import ConfigError, ConfigNotFound
from nemo_runspec.packaging import PACKAGERS, CodePackager, PatternPackager, SelfContainedPackager, build_packager


@pytest.mark.parametrize(
    ("kind", "packager"),
    [
        ("pattern", PatternPackager),
        ("code", CodePackager),
        ("self_contained", SelfContainedPackager),
        ("self-contained", SelfContainedPackager),
    ],
)
def test_a_name_chooses_a_packager(kind: str, packager: type) -> None:
    assert type(build_packager(kind, "train.py")) is packager


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"'patern' not known; have: pattern, code, self_contained\. Did .*'pattern'"):
        build_packager("patern", "train.py")


@pytest.mark.parametrize("kind", sorted(PACKAGERS))
def test_a_script_that_is_not_there_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigNotFound, match=r"stage0/train\.py: no such script"):
        build_packager(kind, tmp_path / "stage0" / "train.py").build()


@pytest.mark.parametrize("kind", sorted(PACKAGERS))
def test_a_config_that_is_not_there_is_refused(kind: str, script: Path) -> None:
    with pytest.raises(ConfigNotFound, match=r"train\.yaml: no such config file"):
        build_packager(kind, script, train_path=script.with_name("train.yaml")).build()


def test_a_config_does_not_replace_a_file_of_the_tree(script: Path, project: Path) -> None:
    (project / "config.yaml").touch()
    (project / "train.yaml").touch()
    with pytest.raises(ConfigError, match=r"train\.yaml would travel as config\.yaml, but so does .*/config\.yaml"):
        build_packager("code", script, train_path=project / "train.yaml").build()


def test_the_documented_call_gives_main_and_config(script: Path, project: Path) -> None:
    (project / "train.yaml").write_text("a: 1\n")
    package = SelfContainedPackager(script_path=str(script), train_path=str(project / "train.yaml")).build()
    assert sorted(map(str, package.files)) == ["config.yaml", "main.py"]


@pytest.mark.parametrize("kind", sorted(PACKAGERS))
def test_the_scripts_place_is_known_without_packaging(kind: str, script: Path) -> None:
    packager = build_packager(kind, script)
    assert packager.script_place() == packager.build().script
