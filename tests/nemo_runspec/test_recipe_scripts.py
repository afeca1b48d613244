"""Scripts become commands by their own metadata."""

import re
from pathlib import Path

import pytest

from nemo_runspec.recipe_scripts import find_recipe_scripts


def write(path: Path, name: str | None, *, more: str = "") -> Path:
    """A script whose block says that name, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["# /// script", "# [tool.runspec]", *([f'# name = "{name}"'] if name else []), *([more] if more else [])]
    path.write_text("\n".join([*lines, "# ///", "raise SystemExit('nobody imports or runs a script to find it')", ""]))
    return path


def test_a_name_is_the_words_of_the_command(tmp_path: Path) -> None:
    write(tmp_path / "a.py", "nano3/data/prep/sft")
    write(tmp_path / "b.py", "big_model/fine_tune")

    found = find_recipe_scripts([tmp_path]).by_command

    assert set(found) == {("nano3", "data", "prep", "sft"), ("big-model", "fine-tune")}
    assert [found[command].stage for command in sorted(found)] == ["fine_tune", "data_prep_sft"]


def test_a_script_without_a_name_is_named_by_where_it_lies(tmp_path: Path) -> None:
    write(tmp_path / "hello" / "train.py", None)

    assert set(find_recipe_scripts([tmp_path]).by_command) == {("hello", "train")}


def test_other_files_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("x = 1\n")
    (tmp_path / "other_block.py").write_text('# /// script\n# dependencies = ["rich"]\n# ///\n')
    (tmp_path / "quoted.py").write_text('TEXT = "# [tool.runspec] as in # /// script"\n')
    write(tmp_path / ".hidden" / "a.py", "hidden/a")
    write(tmp_path / "__pycache__" / "a.py", "cached/a")

    found = find_recipe_scripts([tmp_path])

    assert found.by_command == {}
    assert found.problems == {}


def test_the_users_own_recipe_comes_before_the_packages(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine" / "sft.py", "nano3/sft")
    write(tmp_path / "package" / "sft.py", "nano3/sft")
    write(tmp_path / "package" / "rl.py", "nano3/rl")

    found = find_recipe_scripts([tmp_path / "mine", tmp_path / "package"])

    assert found.by_command["nano3", "sft"].runspec.script_path == mine
    assert ("nano3", "rl") in found.by_command
    assert found.problems == {}


def test_a_directory_given_twice_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "real" / "sft.py", "nano3/sft")
    (tmp_path / "link").symlink_to(tmp_path / "real")

    found = find_recipe_scripts([tmp_path / "link", tmp_path / "real"])

    assert list(found.by_command) == [("nano3", "sft")]
    assert found.problems == {}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("a/b", "a/b"), "is that of .*py, too; rename one"),
        (("a/b", "a/b/c"), "is both a command and a group"),
        (("a/b/c", "a/b"), "is both a command and a group"),
        (("a//b", "c/d"), "makes no command"),
        (("a/b c", "c/d"), "makes no command"),
        (("-a/b", "c/d"), "makes no command"),
    ],
)
def test_names_that_make_no_command_are_a_problem_of_their_scripts_alone(
    tmp_path: Path, names: tuple[str, str], said: str
) -> None:
    for file, name in zip(("one.py", "two.py"), names, strict=True):
        write(tmp_path / file, name)
    write(tmp_path / "well.py", "x/y")

    found = find_recipe_scripts([tmp_path])

    assert any(re.search(said, str(problem)) for problem in found.problems.values())
    assert ("x", "y") in found.by_command


def test_a_broken_script_takes_no_other_along(tmp_path: Path) -> None:
    broken = write(tmp_path / "broken.py", "a/b", more="# lunch = 'torchrun'")
    write(tmp_path / "well.py", "x/y")

    found = find_recipe_scripts([tmp_path])

    assert set(found.by_command) == {("x", "y")}
    assert "unknown key 'lunch'" in str(found.problems[broken])
