"""Which recipe a script belongs to, and which of its files travel."""

import os
from pathlib import Path, PurePosixPath

import pytest
from small_project import write_files

from nemo_runspec.errors import ConfigError
from nemo_runspec.packaging import PatternPackager, recipe_root


@pytest.mark.parametrize(
    ("script", "root"),
    [
        ("/proj/recipes/nano3/stage1_sft/data_prep.py", "/proj/recipes/nano3"),
        ("/proj/recipes/embed/a/b/train.py", "/proj/recipes/embed"),
        ("/proj/recipes/embed/train.py", "/proj/recipes/embed"),
        ("/proj/recipe/stage0/train.py", "/proj/recipe"),
        ("/proj/train.py", "/proj"),
        ("/stage0/train.py", "/stage0"),
        ("/proj/prep/train.py", "/proj/prep"),
        ("/proj/recipe/stage0/../stage1/train.py", "/proj/recipe"),
    ],
)
def test_a_recipe_is_in_recipes_or_above_a_stage_or_the_scripts_directory(script: str, root: str) -> None:
    assert recipe_root(Path(script)) == Path(root)


def places(packager: PatternPackager) -> set[str]:
    return {str(place) for place in packager.build().files if place.parts[0] != "nemo_runspec"}


def test_hidden_and_compiled_files_stay(tmp_path: Path) -> None:
    names = ["stage0/train.py", "stage0/.hidden", ".git/x", "__pycache__/a.txt", "a.pyc", "texts/a.txt", "tools/run.sh"]
    write_files(tmp_path / "recipe", dict.fromkeys(names, "x = 1"))
    packager = PatternPackager(tmp_path / "recipe" / "stage0" / "train.py")
    assert places(packager) == {"recipe/stage0/train.py", "recipe/texts/a.txt", "recipe/tools/run.sh"}
    assert packager.build().script == PurePosixPath("recipe/stage0/train.py")


def test_a_pattern_chooses(tmp_path: Path) -> None:
    write_files(tmp_path / "recipe", dict.fromkeys(["stage0/train.py", "texts/a.txt"], "x = 1"))
    packager = PatternPackager(tmp_path / "recipe" / "stage0" / "train.py", include_pattern="**/*.py")
    assert places(packager) == {"recipe/stage0/train.py"}


def test_a_pattern_without_the_script_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path / "recipe", dict.fromkeys(["stage0/train.py", "texts/a.txt"], "x = 1"))
    packager = PatternPackager(tmp_path / "recipe" / "stage0" / "train.py", include_pattern="**/*.txt")
    with pytest.raises(ConfigError, match=r"train\.py: pattern '\*\*/\*\.txt' does not match the script itself"):
        packager.build()


def test_the_toolkit_comes_along(script: Path) -> None:
    files = PatternPackager(script).build().files
    assert {"__init__.py", "py.typed", "launch/__main__.py"} <= {
        str(place.relative_to("nemo_runspec")) for place in files if place.parts[0] == "nemo_runspec"
    }


def test_a_recipe_of_a_named_package_keeps_its_import_path_and_nothing_else_of_it(repository: Path) -> None:
    script = repository / "recipes" / "nano3" / "stage1_sft" / "data_prep.py"
    package = PatternPackager(script, packages=("nemotron.recipes",)).build()
    assert package.script == PurePosixPath("nemotron/recipes/nano3/stage1_sft/data_prep.py")
    assert package.files[PurePosixPath("nemotron/__init__.py")] == b""
    assert package.files[PurePosixPath("nemotron/recipes/__init__.py")] == b""
    assert {place.parts[2] for place in package.files if len(place.parts) > 3 and place.parts[0] == "nemotron"} == {
        "nano3"
    }


def test_a_package_that_is_not_installed_names_no_recipe(script: Path) -> None:
    package = PatternPackager(script, packages=("not_installed.recipes",)).build()
    assert package.script == PurePosixPath("recipe/stage0/data_prep.py")


def test_a_recipe_in_packages_lies_under_them(tmp_path: Path) -> None:
    names = ["ours/__init__.py", "ours/recipes/__init__.py", "ours/recipes/small/train.py", "ours/other.py"]
    write_files(tmp_path, dict.fromkeys(names, "x = 1"))
    packager = PatternPackager(tmp_path / "ours" / "recipes" / "small" / "train.py")
    assert places(packager) == {"ours/__init__.py", "ours/recipes/__init__.py", "ours/recipes/small/train.py"}


def test_linked_directories_travel_as_what_they_link_to(tmp_path: Path) -> None:
    write_files(tmp_path, {"recipe/stage0/train.py": "x = 1", "shared/text.txt": "text"})
    (tmp_path / "recipe" / "shared").symlink_to(tmp_path / "shared")
    assert "recipe/shared/text.txt" in places(PatternPackager(tmp_path / "recipe" / "stage0" / "train.py"))


def test_a_link_to_a_directory_around_it_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, {"recipe/stage0/train.py": "x = 1"})
    (tmp_path / "recipe" / "stage0" / "loop").symlink_to(tmp_path / "recipe")
    with pytest.raises(ConfigError, match=r"stage0/loop: links to a directory that it lies in"):
        PatternPackager(tmp_path / "recipe" / "stage0" / "train.py").build()


def test_a_home_directory_never_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_files(tmp_path, {"train.py": "x = 1"})
    with pytest.raises(ConfigError, match=f"train.py: all of {tmp_path} would travel"):
        PatternPackager(tmp_path / "train.py").build()


def test_a_recipe_cannot_replace_the_toolkit(tmp_path: Path) -> None:
    write_files(tmp_path, {"recipes/nemo_runspec/train.py": "x = 1"})
    with pytest.raises(ConfigError, match=r"recipes/nemo_runspec: a recipe cannot have the toolkit's name"):
        PatternPackager(tmp_path / "recipes" / "nemo_runspec" / "train.py").build()


def test_names_with_anything_in_them_travel(tmp_path: Path) -> None:
    name = "a b'\"$x\n[1].txt"
    write_files(tmp_path, {"recipe/stage0/train.py": "x = 1", f"recipe/{name}": "text"})
    assert f"recipe/{name}" in places(PatternPackager(os.path.join(tmp_path, "recipe", "stage0", "train.py")))
