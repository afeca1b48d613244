"""What the documentation shows is so."""

import doctest
import re
from pathlib import Path

import pytest

from nemo_runspec.profiles import Profile

API = "docs/api.md"
OPTIONS = doctest.ELLIPSIS
NOT_FOR_USERS = {"extra"}


@pytest.mark.parametrize("field", sorted(Profile.model_fields.keys() - NOT_FOR_USERS))
def test_each_profile_field_is_documented_as_it_is(repository: Path, field: str) -> None:
    row = f"| {Profile.model_fields[field].description} |"
    lines = (repository / "docs" / "slurm.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith(f"| `{field}` |") and line.endswith(row)]


def without_fences(text: str) -> str:
    """The text with blank lines for its fences, which would else be taken for what an example prints."""
    return "\n".join("" if line.startswith("```") else line for line in text.splitlines()) + "\n"


def test_the_examples_of_the_api_do_what_they_show(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NEMOTRON_ENV_FILE", "NEMOTRON_STORE", "WANDB_PROJECT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    text = without_fences((repository / API).read_text(encoding="utf-8"))
    examples = doctest.DocTestParser().get_doctest(text, {}, API, API, 0)
    told: list[str] = []
    results = doctest.DocTestRunner(optionflags=OPTIONS).run(examples, out=told.append)
    assert not results.failed, "".join(told)
    assert results.attempted > 40


def test_each_name_of_the_api_is_told_of(repository: Path) -> None:
    text = (repository / API).read_text(encoding="utf-8")
    golden = repository / "tests" / "nemo_runspec" / "golden" / "public_api.txt"
    names = re.findall(r"^nemo_runspec\.([\w.]+)", golden.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(names) > 40
    assert [name for name in names if not re.search(rf"\b{name.rpartition('.')[2]}\b", text)] == []
    assert len(text.splitlines()) <= 250
