"""What is named like a secret is hidden, wherever it stands."""

from typing import Any

import pytest

from nemo_runspec.config.provenance import hide_secrets
from nemo_runspec.slurm.squash import docker_url


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"hf_token": "x"}, {"hf_token": "***"}),
        ({"wandb": {"api_key": "x", "project": "p"}}, {"wandb": {"api_key": "***", "project": "p"}}),
        ({"env_vars": {"ANY": "x"}}, {"env_vars": {"ANY": "***"}}),
        ({"api_key": None}, {"api_key": None}),
        ({"eos_token": "</s>", "pad_token": "<pad>"}, {"eos_token": "</s>", "pad_token": "<pad>"}),
        (["hf_token=x"], ["hf_token=***"]),
        (["run.env.env_vars.ANY=x"], ["run.env.env_vars.ANY=***"]),
        (["run.env.env_vars={ANY: x}"], ["run.env.env_vars=***"]),
        (["run.env={env_vars: {ANY: x}}"], ["run.env=***"]),
        (["logger={api_key: x}"], ["logger=***"]),
        (["+a[0].password=x"], ["+a[0].password=***"]),
        (["train.lr=1", "tokenizer=gpt"], ["train.lr=1", "tokenizer=gpt"]),
    ],
)
def test_secrets_are_hidden_and_nothing_else(given: Any, shown: Any) -> None:
    assert hide_secrets(given) == shown


@pytest.mark.parametrize(
    ("image", "url"),
    [
        ("nvcr.io/nvidia/nemo:25.11", "docker://nvcr.io#nvidia/nemo:25.11"),
        ("nvcr.io#nvidia/nemo:25.11", "docker://nvcr.io#nvidia/nemo:25.11"),
        ("localhost:5000/mine", "docker://localhost:5000#mine"),
        ("library/ubuntu", "docker://library/ubuntu"),
        ("ubuntu:24.04", "docker://ubuntu:24.04"),
    ],
)
def test_an_image_is_named_as_enroot_wants_it(image: str, url: str) -> None:
    assert docker_url(image) == url
