from pathlib import Path

import pytest

import nemo_runspec


def write_script(folder: Path, *toml: str) -> Path:
    path = folder / "train.py"
    path.write_text("\n".join(["# /// script", *(f"# {line}" for line in toml), "# ///", "print()"]) + "\n")
    return path


def test_a_full_block_is_parsed(tmp_path: Path) -> None:
    script = write_script(
        tmp_path,
        "[tool.runspec]",
        'name = "nano3/sft"',
        "[tool.runspec.run]",
        'launch = "ray"',
        "[tool.runspec.artifacts]",
        'inputs = { data = "SFTDataArtifact" }',
        'output = { name = "nano3-sft-model", type = "ModelArtifact" }',
    )
    spec = nemo_runspec.parse(script)
    assert (spec.name, spec.run.launch, spec.run.packager) == ("nano3/sft", "ray", "pattern")
    assert spec.artifacts.inputs == {"data": "SFTDataArtifact"}
    assert spec.artifacts.output_name == "nano3-sft-model"
    assert spec.config_dir == tmp_path / "config"


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (["[tool.other]"], "no \\[tool.runspec\\]"),
        (["[tool.runspec"], "bad TOML.*line 1"),
        (["[tool.runspec]", "nmae = 'x'"], "unknown key 'nmae'.*Did you mean 'name'"),
        (["[tool.runspec.run]", "lunch = 'ray'"], "unknown key 'lunch'.*Did you mean 'launch'"),
        (["[tool.runspec.run]", "launch = 'torchrum'"], "allowed: torchrun, ray, direct"),
        (["[tool.runspec.resources]", "nodes = '2'"], "nodes = '2' is a str; expected int"),
        (["[tool.runspec.resources]", "nodes = true"], "nodes = True is a bool; expected int"),
    ],
)
def test_a_bad_block_is_refused_by_name(tmp_path: Path, toml: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nemo_runspec.parse(write_script(tmp_path, *toml))


def test_a_script_without_a_block_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("print()\n")
    with pytest.raises(ValueError, match="found 0"):
        nemo_runspec.parse(tmp_path / "plain.py")


def test_a_missing_script_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such script"):
        nemo_runspec.parse(tmp_path / "none.py")
