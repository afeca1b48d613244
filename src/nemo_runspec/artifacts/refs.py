"""What names an artifact: the reference that stages hand on, the record behind it, and the text form `name:version`."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nemo_runspec.errors import ArtifactError
from nemo_runspec.mirror.target import WandbTarget

LATEST = "latest"
Policy = Literal["copy", "reference"]

_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_REF = re.compile(rf"(?:art://)?(?P<name>{_WORD})(?::(?P<selector>{_WORD}))?")
_VERSION = re.compile(r"v?(0|[1-9][0-9]*)")


class ArtifactRef(BaseModel):
    """One exact version of an artifact: a few hundred bytes of JSON, no path and no content.

    `digest` identifies the content (names, sizes and digests of the files), wherever the files lie.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    type: str
    version: str = Field(pattern=r"^v(0|[1-9][0-9]*)$")
    digest: str
    metadata: dict[str, Any] = Field(default_factory=dict)

    @property
    def uri(self) -> str:
        """`art://name:vN`."""
        return f"art://{self}"

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


class Producer(BaseModel):
    """Who made a version: the pipeline run, its stage, and the fingerprint of all that the stage depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    stage: str
    fingerprint: str
    host: str = Field(default_factory=socket.gethostname)
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


class VersionRecord(BaseModel):
    """What the store keeps of a version; never changed once written. `manifest` is the manifest's SHA-256 in hex.

    `wandb` says where it is to be mirrored; it is part of the record, so that no crash can come between the two.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ref: ArtifactRef
    producer: Producer
    inputs: list[ArtifactRef]
    policy: Policy
    manifest: str = Field(pattern=r"^[0-9a-f]{64}$")
    wandb: WandbTarget | None = None


@dataclass(frozen=True, kw_only=True)
class RequestedRef:
    """A parsed `name[:selector]`; `selector` is `latest`, `vN` or an alias."""

    name: str
    selector: str


def parse_ref(text: str) -> RequestedRef:
    """Parse `name`, `name:latest`, `name:v3`, `name:3`, `name:alias`, each with or without `art://`.

    Raises:
        ArtifactError: the text is none of these.
    """
    match = _REF.fullmatch(text)
    if match is None:
        raise ArtifactError(
            f"artifact reference {text!r} is malformed; give NAME, NAME:vN, NAME:ALIAS or NAME:latest, "
            "made of letters, digits, '.', '_' and '-'"
        )
    selector = match["selector"] or LATEST
    number = _VERSION.fullmatch(selector)
    return RequestedRef(name=match["name"], selector=f"v{number[1]}" if number else selector)


def check_name(name: str) -> None:
    """Raise `ArtifactError` unless `name` can name an artifact."""
    if not re.fullmatch(_WORD, name):
        raise ArtifactError(
            f"artifact name {name!r} is malformed; use up to 128 letters, digits, '.', '_' and '-', "
            "a letter or a digit first"
        )


def check_alias(alias: str) -> None:
    """Raise `ArtifactError` unless `alias` can be an alias: a word that is neither `latest` nor a version."""
    if not re.fullmatch(_WORD, alias) or alias == LATEST or _VERSION.fullmatch(alias):
        raise ArtifactError(
            f"alias {alias!r} cannot be used; choose a word of letters, digits, '.', '_' and '-' "
            "that is neither 'latest' nor a version like 'v3'"
        )
