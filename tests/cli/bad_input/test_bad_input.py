"""Bad input is refused before anything happens, in a line that says what, whose, what is allowed and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from bad_input import artifacts, configs, options, places, recipes, runs
from bad_input.conftest import publish_artifacts
from bad_input.row import HERE, BadInput
from nemotron.cli.app import main

ROWS = (*options.ROWS, *configs.ROWS, *places.ROWS, *artifacts.ROWS, *runs.ROWS, *recipes.ROWS)


def tree(folder: Path) -> list[str]:
    """All paths below, with the size of each file."""
    return sorted(
        f"{path.relative_to(folder)} {path.stat().st_size if path.is_file() else ''}" for path in folder.rglob("*")
    )


def set_the_scene(project: Path, row: BadInput, monkeypatch: pytest.MonkeyPatch) -> None:
    if row.store:
        publish_artifacts(project)
    for name, content in row.files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.replace(HERE, str(project)).encode())
    for name, value in row.env.items():
        monkeypatch.setenv(name, value.replace(HERE, str(project)))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_bad_input_is_refused_before_anything_happens(
    row: BadInput,
    project: Path,
    started: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_the_scene(project, row, monkeypatch)
    before = tree(project.parent)
    code = main(row.argv)
    out, err = capsys.readouterr()
    assert code == 2, out + err
    assert err.startswith("error: "), err
    assert "Traceback" not in err
    assert [part for part in row.says if part.replace(HERE, str(project)) not in err] == [], err
    assert len(err.splitlines()) <= 3, err
    assert bool(out) == row.shows, out
    assert tree(project.parent) == before
    assert started == []
