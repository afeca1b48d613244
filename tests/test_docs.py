from pathlib import Path

import pytest

from nemo_runspec.profiles import Profile

NOT_FOR_USERS = {"extra", "packager"}


@pytest.mark.parametrize("field", sorted(Profile.model_fields.keys() - NOT_FOR_USERS))
def test_each_profile_field_is_documented_as_it_is(repository: Path, field: str) -> None:
    row = f"| {Profile.model_fields[field].description} |"
    lines = (repository / "docs" / "slurm.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith(f"| `{field}` |") and line.endswith(row)]
