"""A package as a directory and as a tar file."""

import tarfile
from pathlib import Path, PurePosixPath

import pytest

from nemo_runspec.errors import ConfigError
from nemo_runspec.packaging import Package, Symlink, build_packager, pack_tar, write_package

PLACE = PurePosixPath("bin/tool")


@pytest.fixture
def package(tmp_path: Path) -> Package:
    tool = tmp_path / "tool.sh"
    tool.write_text("true\n")
    tool.chmod(0o755)
    files = {PLACE: tool, PurePosixPath("text"): b"hello", PurePosixPath("lib/link"): Symlink("../text")}
    return Package(files=files, script=PLACE, pythonpath=())


def test_a_package_is_written_with_modes_and_links(package: Package, tmp_path: Path) -> None:
    write_package(package, tmp_path / "deep" / "code")
    assert (tmp_path / "deep" / "code" / "bin" / "tool").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "deep" / "code" / "lib" / "link").readlink() == Path("../text")
    assert (tmp_path / "deep" / "code" / "lib" / "link").read_text() == "hello"


def test_a_written_package_is_never_touched_again(package: Package, tmp_path: Path) -> None:
    write_package(package, tmp_path / "code")
    (tmp_path / "tool.sh").write_text("false\n")
    write_package(package, tmp_path / "code")
    assert (tmp_path / "code" / PLACE).read_text() == "true\n"


def test_a_package_that_cannot_be_written_leaves_nothing(package: Package, tmp_path: Path) -> None:
    (tmp_path / "tool.sh").unlink()
    with pytest.raises(FileNotFoundError):
        write_package(package, tmp_path / "out" / "code")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_tar_that_cannot_be_written_leaves_nothing(package: Package, tmp_path: Path) -> None:
    (tmp_path / "tool.sh").unlink()
    with pytest.raises(FileNotFoundError):
        pack_tar(package, tmp_path / "out" / "code.tar.gz")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_tar_keeps_modes_and_links_and_tells_no_owner(package: Package, tmp_path: Path) -> None:
    with tarfile.open(pack_tar(package, tmp_path / "code.tar.gz")) as tar:
        entries = {entry.name: entry for entry in tar}
    assert list(entries) == ["bin/tool", "lib/link", "text"]
    assert entries["bin/tool"].mode == 0o755
    assert entries["lib/link"].linkname == "../text"
    assert {(entry.uid, entry.uname, entry.mtime) for entry in entries.values()} == {(0, "", 0)}


@pytest.mark.parametrize("kind", ["pattern", "code", "self_contained"])
def test_equal_code_gives_equal_bytes(kind: str, script: Path, tmp_path: Path) -> None:
    first = pack_tar(build_packager(kind, script).build(), tmp_path / "first.tar.gz")
    (script.parent.parent / "late.py").touch()
    script.touch()
    second = pack_tar(build_packager(kind, script).build(), tmp_path / "second.tar.gz")
    assert first.read_bytes() == second.read_bytes()


def test_nemo_run_gets_a_tar_once(script: Path, tmp_path: Path) -> None:
    packager = build_packager("pattern", script)
    path = packager.package(tmp_path, str(tmp_path / "job"), "code")
    assert path == str(tmp_path / "job" / "code.tar.gz")
    before = Path(path).read_bytes()
    script.write_text("changed = 1\n")
    assert Path(packager.package(tmp_path, str(tmp_path / "job"), "code")).read_bytes() == before


@pytest.mark.parametrize("place", ["/etc/passwd", "../outside", "a/../../b"])
def test_a_place_outside_is_refused(place: str) -> None:
    with pytest.raises(ConfigError, match=r"a package holds relative places only"):
        Package(files={PurePosixPath(place): b""}, script=PurePosixPath(place), pythonpath=())


def test_a_package_has_its_script() -> None:
    with pytest.raises(ConfigError, match=r"main\.py: the script is not among the 0 files"):
        Package(files={}, script=PurePosixPath("main.py"), pythonpath=())
