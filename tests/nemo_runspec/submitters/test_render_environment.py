"""NeMo-Run's environment of its own: when it is asked, what it gets to see, and what is said when it cannot be had."""

import sys
from pathlib import Path

import pytest
from job_specs import GOLDEN

from nemo_runspec.errors import RequirementError
from nemo_runspec.submitters import render, with_nemo_run

DIRECT, RAY = GOLDEN["direct"], GOLDEN["ray"]


@pytest.fixture
def without_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", "/nonexistent")


def test_what_was_rendered_before_needs_no_process(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    first = render([DIRECT, RAY], submitter="nemo-run", cache_dir=tmp_path)
    request.getfixturevalue("without_uv")
    assert render([RAY, DIRECT, RAY], submitter="nemo-run", cache_dir=tmp_path) == [first[1], first[0], first[1]]


def test_a_torn_file_in_the_cache_is_rendered_again(tmp_path: Path) -> None:
    [text] = render([DIRECT], submitter="nemo-run", cache_dir=tmp_path)
    [path] = tmp_path.iterdir()
    path.write_text("")
    assert render([DIRECT], submitter="nemo-run", cache_dir=tmp_path) == [text]


def test_variables_of_the_job_do_not_reach_nemo_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGLEVEL", "DEBUG")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", "/nonexistent")
    (tmp_path / "torchx.py").write_text("raise RuntimeError('of another environment')")
    [text] = render([DIRECT], submitter="nemo-run", cache_dir=tmp_path / "cache")
    assert "LOGLEVEL" not in text


@pytest.mark.usefixtures("without_uv")
def test_a_missing_uv_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        RequirementError, match=r"needs uv, which is not installed; pip install 'nemotron-flows\[slurm\]'"
    ):
        render([DIRECT], submitter="nemo-run", cache_dir=tmp_path)


def test_a_machine_without_internet_is_told_the_way_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(RequirementError, match="did not render the job scripts: exit code") as caught:
        render([DIRECT], submitter="nemo-run", cache_dir=tmp_path / "cache")
    assert "network" in str(caught.value)
    assert "nemotron doctor --build-nemo-run" in str(caught.value)
    assert 'submitter = "submitit"' in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_a_renderer_that_does_not_answer_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(with_nemo_run, "TIMEOUT_S", 0.5)
    with pytest.raises(RequirementError, match=r"no answer within 0\.5 s"):
        render([DIRECT], submitter="nemo-run", cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
