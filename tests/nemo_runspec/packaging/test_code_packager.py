"""What of a real git work tree travels."""

import os
from pathlib import Path, PurePosixPath

import pytest
from small_project import git, write_files

from nemo_runspec.errors import ConfigError, RequirementError
from nemo_runspec.packaging import CodePackager, Symlink, write_package


def places(script: Path) -> set[str]:
    files = CodePackager(script).build().files
    return {str(place) for place in files if place.parts[0] not in ("recipe", ".toolkit")}


def test_the_work_tree_travels_as_it_is_now(project: Path, script: Path) -> None:
    write_files(project, {"kept.py": "", "gone.py": "", ".gitignore": "*.log\n"})
    git(project, "add", ".")
    (project / "gone.py").unlink()
    write_files(project, {"untracked.py": "", "ignored.log": "", "kept.py": "changed = 1"})
    assert places(script) == {".gitignore", "kept.py", "untracked.py"}
    content = CodePackager(script).build().files[PurePosixPath("kept.py")]
    assert content == project / "kept.py"


def test_a_submodule_travels(project: Path, script: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    write_files(library, {"lib/inner.py": "x = 1"})
    git(library, "init", "-q")
    git(library, "add", ".")
    git(library, "commit", "-qm", "library")
    git(project, "submodule", "add", "-q", str(library), "third/library")
    write_files(project / "third" / "library", {"lib/untracked.py": "x = 2"})
    assert places(script) == {".gitmodules", "third/library/lib/inner.py", "third/library/lib/untracked.py"}


def test_a_submodule_that_is_not_checked_out_is_told(
    project: Path, script: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    git(tmp_path, "clone", "-q", str(project), "library")
    git(project, "submodule", "add", "-q", str(tmp_path / "library"), "third")
    git(project, "submodule", "deinit", "--force", "third")
    assert places(script) == {".gitmodules"}
    assert "third: a submodule that is not checked out does not travel" in caplog.text


def test_links_stay_links_within_the_tree(project: Path, script: Path, tmp_path: Path) -> None:
    write_files(project, {"data/text.txt": "text"})
    write_files(tmp_path, {"outside.txt": "outside"})
    (project / "data" / "relative").symlink_to("text.txt")
    (project / "data" / "absolute").symlink_to(project / "recipe")
    (project / "data" / "around").symlink_to(Path("..", "..", project.name, "data"))
    (project / "data" / "copied").symlink_to(tmp_path / "outside.txt")
    files = CodePackager(script).build().files
    assert files[PurePosixPath("data/relative")] == Symlink("text.txt")
    assert files[PurePosixPath("data/absolute")] == Symlink("../recipe")
    assert files[PurePosixPath("data/around")] == Symlink(".")
    assert files[PurePosixPath("data/copied")] == tmp_path / "outside.txt"


def test_a_link_to_a_directory_elsewhere_stays_behind_and_is_told(
    project: Path, script: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mount").mkdir()
    (project / "mount").symlink_to(tmp_path / "mount")
    assert places(script) == set()
    assert f"mount: links to {tmp_path}/mount, outside the work tree and no file" in caplog.text


def test_executable_files_stay_so(project: Path, script: Path, tmp_path: Path) -> None:
    write_files(project, {"run.sh": "true"})
    (project / "run.sh").chmod(0o755)
    write_package(CodePackager(script).build(), tmp_path / "code")
    assert os.access(tmp_path / "code" / "run.sh", os.X_OK)


def test_src_and_the_toolkit_are_on_the_path_where_they_are_needed(project: Path, script: Path) -> None:
    write_files(project, {"src/ours/__init__.py": ""})
    package = CodePackager(script).build()
    assert [str(place) for place in package.pythonpath] == [".", "src", ".toolkit"]
    assert PurePosixPath(".toolkit/nemo_runspec/__init__.py") in package.files


def test_a_tree_with_the_toolkit_brings_its_own(project: Path, script: Path) -> None:
    write_files(project, {"src/nemo_runspec/__init__.py": ""})
    package = CodePackager(script).build()
    assert [str(place) for place in package.pythonpath] == [".", "src"]
    assert {place.parts[0] for place in package.files} == {"recipe", "src"}


def test_an_ignored_script_is_refused(project: Path, script: Path) -> None:
    git(project, "rm", "-q", "--cached", str(script))
    write_files(project, {".gitignore": "data_prep.py"})
    with pytest.raises(ConfigError, match=r"data_prep\.py: git ignores the script, .* 'pattern' .* 'self_contained'"):
        CodePackager(script).build()


def test_a_script_outside_a_work_tree_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, {"stage0/train.py": "x = 1"})
    with pytest.raises(ConfigError, match=r"stage0: packager 'code' needs a git work tree: .*not a git rep.*'pattern'"):
        CodePackager(tmp_path / "stage0" / "train.py").build()


def test_a_machine_without_git_is_told_what_to_use(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequirementError, match=r"packager 'code' needs git, which is not on PATH; use packager"):
        CodePackager(script).build()


def test_the_variables_of_a_git_hook_do_not_mislead(
    project: Path, script: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(repository))
    write_files(project, {"kept.py": ""})
    assert places(script) == {"kept.py"}


def test_a_large_tree_is_told(project: Path, script: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (project / "large.bin").open("wb") as file:
        file.truncate(501 * 10**6)  # sparse
    CodePackager(script).build()
    assert "data_prep.py: 501 MB of code and data travel with each job" in caplog.text
