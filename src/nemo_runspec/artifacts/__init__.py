"""Versioned artifacts with lineage in a local, embedded store."""

from nemo_runspec.artifacts.lineage import LineageEdge, lineage_text
from nemo_runspec.artifacts.refs import ArtifactRef, Producer, RequestedRef, VersionRecord, parse_ref
from nemo_runspec.artifacts.store import ArtifactStore
from nemo_runspec.artifacts.tracking import ArtifactTracking, log_artifact, setup_artifact_tracking
from nemo_runspec.artifacts.types import (
    Artifact,
    DataBlendsArtifact,
    EnergonWebDatasetArtifact,
    InputDatasetInfo,
    ModelArtifact,
    PretrainBlendsArtifact,
    PretrainDataArtifact,
    SFTDataArtifact,
    SplitJsonlDataArtifact,
)

__all__ = [
    "Artifact",
    "ArtifactRef",
    "ArtifactStore",
    "ArtifactTracking",
    "DataBlendsArtifact",
    "EnergonWebDatasetArtifact",
    "InputDatasetInfo",
    "LineageEdge",
    "ModelArtifact",
    "PretrainBlendsArtifact",
    "PretrainDataArtifact",
    "Producer",
    "RequestedRef",
    "SFTDataArtifact",
    "SplitJsonlDataArtifact",
    "VersionRecord",
    "lineage_text",
    "log_artifact",
    "parse_ref",
    "setup_artifact_tracking",
]
