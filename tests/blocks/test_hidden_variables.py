"""What the server shows of a profile's variables to somebody who looks at its block, as the UI does."""

import json

import pytest
from prefect_server import ask

from nemo_runspec.profiles import Profile
from nemotron.blocks.env_profile import read_profile, save_profile


@pytest.mark.parametrize("variables", [{"HF_TOKEN": "canary", "A_B": "canary"}, {"A": ""}, {}])
def test_variables_are_hidden_and_survive_a_change_of_another_field(server: str, variables: dict[str, str]) -> None:
    save_profile("lab", Profile(env_vars=variables), url=server)
    by_name = {"block_documents": {"name": {"any_": ["lab"]}}}
    (shown,) = ask(server, "block_documents/filter", by_name)
    assert "canary" not in json.dumps(shown)

    data = {**shown["data"], "account": "llm"}
    change = {"data": data, "merge_existing_data": False, "block_schema_id": shown["block_schema_id"]}
    ask(server, f"block_documents/{shown['id']}", change, method="PATCH")

    assert read_profile("lab", server) == Profile(env_vars=variables, account="llm")
