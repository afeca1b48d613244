"""The one file: what it tells, how it runs, and what it refuses rather than leaves out."""

import io
import subprocess
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from bare_python import BarePython
from small_project import ANSWER, write_files

import nemo_runspec
from nemo_runspec.errors import ConfigError
from nemo_runspec.packaging import REMOTE_SCRIPT, SelfContainedPackager, write_package
from nemo_runspec.packaging.import_scan import scan_module


def main_of(script: Path) -> bytes:
    content = SelfContainedPackager(script).build().files[PurePosixPath(REMOTE_SCRIPT)]
    assert isinstance(content, bytes)
    return content


def modules_of(script: Path) -> set[str]:
    names = zipfile.ZipFile(io.BytesIO(main_of(script))).namelist()
    return {name for name in names if not name.startswith("nemo_runspec/")}


def write_script(folder: Path, text: str, **modules: str) -> Path:
    files = {name.replace("__in__", "/") + ".py": source for name, source in modules.items()}
    write_files(folder / "recipe", {"stage0/train.py": text, **files})
    return folder / "recipe" / "stage0" / "train.py"


def test_the_head_of_the_file_tells_what_it_is(script: Path, tmp_path: Path) -> None:
    write_package(SelfContainedPackager(script).build(), tmp_path / "code")
    head = subprocess.run(["head", "-n", "11", tmp_path / "code" / "main.py"], capture_output=True, check=True).stdout
    digest = subprocess.run(["sha256sum", script], capture_output=True, text=True, check=True).stdout.split()[0]
    text = head.decode(errors="replace").replace("\n# ", " ")
    assert text.startswith("#!/usr/bin/env python3 A Python program in one file: recipe/stage0/data_prep.py with ")
    assert f"The script's digest is sha256:{digest}." in text
    needed = "blake3, fsspec, omegaconf, pydantic, pydantic_core, ray, torch, yaml"
    assert f"which must be installed or are optional to it: {needed}." in text


def test_a_file_has_what_the_script_imports_and_no_more(script: Path) -> None:
    write_files(script.parent.parent, {"unused.py": "x = 1"})
    assert {name for name in modules_of(script) if name.endswith(".py")} == {
        "__main__.py",
        "helper.py",
        "recipe/__init__.py",
        "recipe/first.py",
        "recipe/late.py",
        "recipe/left/__init__.py",
        "recipe/left/parts.py",
        "recipe/right/__init__.py",
        "recipe/right/helper.py",
        "recipe/right/parts.py",
        "recipe/second.py",
        "recipe/stage0/data_prep.py",
        "recipe/stars/__init__.py",
        "recipe/stars/planets.py",
    }


def test_a_relative_path_to_the_file_outlives_chdir(script: Path, tmp_path: Path, bare_python: BarePython) -> None:
    write_package(SelfContainedPackager(script).build(), tmp_path / "code")
    (tmp_path / "train.yaml").write_text("count: 3\n")
    relative = "../code/main.py"
    ran = bare_python.run(relative, "--config", tmp_path / "train.yaml", pythonpath=[Path(relative)])
    assert (ran.stdout, ran.stderr) == (ANSWER, "")


def test_arguments_and_the_exit_code_are_the_scripts_own(tmp_path: Path, bare_python: BarePython) -> None:
    script = write_script(tmp_path, "import sys\nprint(sys.argv[1:], __name__, __doc__)\nsys.exit(75)")
    write_package(SelfContainedPackager(script).build(), tmp_path / "code")
    ran = bare_python.run(tmp_path / "code" / "main.py", "a b", "--x")
    assert (ran.stdout, ran.stderr, ran.returncode) == ("['a b', '--x'] __main__ None\n", "", 75)


def test_a_script_starts_with_the_names_that_a_plain_one_has(tmp_path: Path, bare_python: BarePython) -> None:
    script = write_script(tmp_path, "print(sorted(set(globals()) - {'__cached__'}))")
    write_package(SelfContainedPackager(script).build(), tmp_path / "code")
    packaged = bare_python.run(tmp_path / "code" / "main.py").stdout
    assert packaged == bare_python.run(script).stdout


def test_an_error_while_another_is_handled_shows_both(tmp_path: Path, bare_python: BarePython) -> None:
    text = """
        def fail():
            raise KeyError("first")

        try:
            fail()
        except KeyError:
            raise ValueError("second")
    """
    script = write_script(tmp_path, text)
    write_package(SelfContainedPackager(script).build(), tmp_path / "code")
    shown = bare_python.run(tmp_path / "code" / "main.py").stderr.replace(f"{tmp_path}/code/main.py/recipe/", "")
    plain = bare_python.run(script).stderr.replace(f"{script.parent.parent}/", "")
    assert shown == plain


@pytest.mark.parametrize(
    "statement",
    [
        "from recipe.shared import VALUE",
        "import recipe.shared as s; VALUE = s.VALUE",
        "from recipe import shared; VALUE = shared.VALUE",
        "import importlib; VALUE = importlib.import_module('recipe.shared').VALUE",
        "VALUE = __import__('recipe.shared').shared.VALUE",
        "from importlib import import_module; VALUE = import_module('.shared', 'recipe').VALUE",
        "import shared; VALUE = shared.VALUE",
    ],
)
def test_any_form_of_import_is_followed(tmp_path: Path, bare_python: BarePython, statement: str) -> None:
    script = write_script(tmp_path, f"def main():\n    {statement}\n    print(VALUE)\nmain()", shared="VALUE = 7")
    write_package(SelfContainedPackager(script).build(), tmp_path / "code")
    assert bare_python.run(tmp_path / "code" / "main.py").stdout == "7\n"


def test_an_import_in_a_block_for_type_checkers_is_left_out(tmp_path: Path) -> None:
    text = "import typing\nif typing.TYPE_CHECKING:\n    import recipe.shared\nelse:\n    import recipe.other"
    assert "recipe/shared.py" not in modules_of(write_script(tmp_path, text, shared="", other=""))
    assert "recipe/other.py" in modules_of(write_script(tmp_path, text, shared="", other=""))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\npath = __file__", r"recipe/shared\.py:2: reads beside itself, .* packager 'pattern' or 'code'"),
        ("import recipe.other as them\nthem.__file__", r"shared\.py:2: reads beside recipe\.other"),
        ("import recipe\nrecipe.other.__file__", r"shared\.py:2: reads beside recipe\.other"),
        ("import importlib.resources as r\nr.files(__package__)", r"shared\.py:2: reads beside itself"),
        ("import importlib.resources as r\nr.files('recipe')", r"shared\.py:2: reads beside recipe"),
        ("import pkgutil\npkgutil.get_data(__name__, 'x')", r"shared\.py:2: reads beside itself"),
        ("import torch\ntorch.__file__", None),
        ("other = print\nother.__file__", None),
        ("def broken(:\n    pass", r"recipe/shared\.py:1: not Python 3\.\d+: .*"),
    ],
)
def test_what_an_archive_cannot_do_is_refused(tmp_path: Path, source: str, message: str | None) -> None:
    script = write_script(tmp_path, "import recipe.shared", shared=source, other="x = 1")
    if message is None:
        main_of(script)
        return
    with pytest.raises(ConfigError, match=message):
        main_of(script)


def test_a_module_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    script = write_script(tmp_path, "import recipe.shared", shared="")
    script.parent.with_name("shared.py").write_bytes(b"# -*- coding: latin-1 -*-\nx = '\xe9'\n")
    with pytest.raises(ConfigError, match=r"shared\.py: not UTF-8 at byte 31; save it as UTF-8"):
        main_of(script)


def test_machine_code_is_refused(tmp_path: Path) -> None:
    script = write_script(tmp_path, "x = 1\nfrom recipe import fast")
    script.parent.with_name("fast.cpython-311-x86_64-linux-gnu.so").touch()
    with pytest.raises(ConfigError, match=r"train\.py:2: .*recipe/fast\.cpython-.*\.so is machine code; use packager"):
        main_of(script)


def test_a_name_that_is_two_files_is_refused(tmp_path: Path) -> None:
    script = write_script(tmp_path, "import shared", shared="x = 1", stage0__in__shared="x = 2")
    with pytest.raises(ConfigError, match=r"module 'shared' is both .*stage0/shared\.py and .*recipe/shared\.py; ren"):
        main_of(script)


def test_a_name_that_is_also_installed_is_refused(tmp_path: Path) -> None:
    script = write_script(tmp_path, "import yaml", stage0__in__yaml="x = 1")
    with pytest.raises(ConfigError, match=r"module 'yaml' is both .*stage0/yaml\.py and .*site-packages/yaml/__init__"):
        main_of(script)


def test_a_name_of_the_standard_library_is_refused(tmp_path: Path) -> None:
    script = write_script(tmp_path, "import queue", stage0__in__queue="x = 1")
    with pytest.raises(ConfigError, match=r"stage0/queue\.py: has the name of a module of the standard library"):
        main_of(script)


def test_a_mere_directory_does_not_hide_an_installed_package(tmp_path: Path) -> None:
    script = write_script(tmp_path, "import yaml\nimport wandb")
    (script.parent / "yaml").mkdir()
    (script.parent / "wandb").mkdir()
    assert not {name for name in modules_of(script) if "yaml" in name or "wandb" in name}


def test_a_computed_import_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    main_of(write_script(tmp_path, "import importlib, sys\nimportlib.import_module(sys.argv[1])"))
    assert "train.py:2: imports by a computed name" in caplog.text


def test_a_module_of_ours_that_is_missing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    main_of(write_script(tmp_path, "try:\n    import recipe.absent\nexcept ImportError: pass", __init__="x = 1"))
    assert "train.py:2: there is no module recipe.absent; it does not travel" in caplog.text


def test_only_two_modules_of_the_toolkit_read_beside_themselves() -> None:
    """They submit and package jobs, which no job does; the rest must work from an archive."""
    toolkit = Path(nemo_runspec.__file__).parent
    scans = {path: scan_module(path.read_bytes(), package="", origin=path) for path in toolkit.rglob("*.py")}
    using = {path.relative_to(toolkit).as_posix() for path, found in scans.items() if found.file_uses}
    assert using == {"packaging/roots.py", "packaging/self_contained.py", "submitters/with_nemo_run.py"}


def test_spawned_processes_import_from_the_file_alone(tmp_path: Path, bare_python: BarePython) -> None:
    script = write_script(tmp_path, "import recipe.shared", shared="VALUE = 7")
    write_package(SelfContainedPackager(script).build(), tmp_path / "code")
    words = ["-c", "from recipe.shared import VALUE; print(VALUE)"]
    assert bare_python.run(*words, pythonpath=[tmp_path / "code" / "main.py"]).stdout == "7\n"
