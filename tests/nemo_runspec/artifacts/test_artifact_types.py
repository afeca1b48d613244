from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from nemo_runspec.artifacts import (
    Artifact,
    InputDatasetInfo,
    ModelArtifact,
    PretrainDataArtifact,
    SFTDataArtifact,
    SplitJsonlDataArtifact,
)


@pytest.mark.parametrize(
    ("artifact", "type_name"),
    [
        (Artifact(path=Path("out")), "Artifact"),
        (ModelArtifact(path=Path("out"), step=0), "ModelArtifact"),
        (SplitJsonlDataArtifact(path=Path("out"), total_sequences=0), "SplitJsonlDataArtifact"),
        (Artifact(path=Path("out"), type="Tokenizer"), "Tokenizer"),
    ],
)
def test_the_type_is_the_class_unless_given(artifact: Artifact, type_name: str) -> None:
    assert artifact.type == type_name


def test_typed_fields_are_in_the_metadata() -> None:
    artifact = SFTDataArtifact(path=Path("out"), total_tokens=9, total_sequences=3, pack_size=4)
    assert artifact.metadata == {
        "total_tokens": 9,
        "total_sequences": 3,
        "elapsed_sec": 0.0,
        "pack_size": 4,
        "source_datasets": [],
        "tokenizer_uri": None,
    }


def test_sources_are_plain_in_the_metadata() -> None:
    source = InputDatasetInfo(name="wiki", uri="/data/wiki.txt", size_bytes=12)
    artifact = PretrainDataArtifact(
        path=Path("out"), total_tokens=9, total_sequences=3, num_shards=1, source_datasets=[source]
    )
    assert artifact.metadata["source_datasets"] == [
        {"name": "wiki", "uri": "/data/wiki.txt", "weight": 1.0, "num_rows": None, "size_bytes": 12, "sha256": None}
    ]


def test_metadata_of_ones_own_is_kept_beside_the_typed() -> None:
    artifact = ModelArtifact(path=Path("out"), step=5, final_loss=2.5, metadata={"parent": "base:v0", "step": 1})
    assert artifact.metadata == {"parent": "base:v0", "step": 5, "final_loss": 2.5, "iteration": 5}


def test_the_time_of_creation_is_utc_to_the_second() -> None:
    created = datetime.fromisoformat(Artifact(path=Path("out")).created_at)
    assert (created.tzinfo, created.microsecond) == (UTC, 0)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"step": -1}, "step"),
        ({"step": 1, "loss": 2.0}, "loss"),
        ({}, "step"),
        ({"step": 1.5}, "step"),
    ],
)
def test_a_field_that_is_unknown_missing_or_out_of_range_is_refused(fields: dict[str, float], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ModelArtifact.model_validate({"path": "out", **fields})
