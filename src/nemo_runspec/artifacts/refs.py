"""What names an artifact: the reference that stages hand on, the record behind it, and the text form `name:version`.

A text is read as a reference only where a script declares that it takes one; nothing is guessed from its looks.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nemo_runspec.errors import ArtifactCorrupted, ArtifactError
from nemo_runspec.mirror.target import WandbTarget

LATEST = "latest"
FOREIGN_PREFIX = "wandb."
"""Begins the names of what was taken from W&B and no others, so that nothing of one's own is among its versions."""
Policy = Literal["copy", "reference"]

_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_PLACE = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}"
_REF = re.compile(
    rf"(?:art://)?(?:(?:(?P<entity>{_PLACE})/)?(?P<project>{_PLACE})/)?"
    rf"(?P<name>{_WORD})(?::(?P<selector>{_WORD}))?(?:@(?P<digest>{_DIGEST}))?"
)
_VERSION = re.compile(r"v?(0|[1-9][0-9]*)")


class ArtifactRef(BaseModel):
    """One exact version of an artifact: a few hundred bytes of JSON, no path and no content.

    `digest` identifies the content, wherever the files lie: the SHA-256 of their names, sizes and digests.
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
    """A parsed `[[entity/]project/]name[:selector][@digest]`; `selector` is `latest`, `vN` or an alias.

    With a project it is an artifact of a W&B server; without an entity, of the API key's default one.
    """

    name: str
    selector: str
    entity: str | None = None
    project: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        """The same for all texts that mean the same, but for the digest, which is not in it."""
        return "/".join(filter(None, [self.entity, self.project, f"{self.name}:{self.selector}"]))

    @property
    def is_foreign(self) -> bool:
        """Whether it is one of a W&B server."""
        return self.project is not None

    @property
    def is_exact(self) -> bool:
        """Whether it names a version, so that it never means another."""
        return _VERSION.fullmatch(self.selector) is not None

    def check_digest(self, ref: ArtifactRef) -> None:
        """Raise `ArtifactCorrupted` if it names a digest, and the version has another one."""
        if self.digest is not None and self.digest != ref.digest:
            raise ArtifactCorrupted(
                f"{self}@{self.digest}: {ref} has the digest {ref.digest}; correct the digest or the version"
            )


def parse_ref(text: str) -> RequestedRef:
    """Parse `name`, `name:latest`, `name:v3`, `name:3`, `name:alias`, each with or without `art://`.

    In front of the name there may be `entity/project/` or `project/`, behind all of it `@sha256:<hex>`.

    Raises:
        ArtifactError: the text is none of these.
    """
    match = _REF.fullmatch(text)
    if match is None:
        raise ArtifactError(
            f"artifact reference {text!r} is malformed; give NAME, NAME:vN, NAME:ALIAS or NAME:latest, made of "
            "letters, digits, '.', '_' and '-'; for one on W&B ENTITY/PROJECT/ in front; @sha256:HEX may follow"
        )
    selector = match["selector"] or LATEST
    number = _VERSION.fullmatch(selector)
    return RequestedRef(
        name=match["name"],
        selector=f"v{number[1]}" if number else selector,
        entity=match["entity"],
        project=match["project"],
        digest=match["digest"],
    )


def check_name(name: str) -> None:
    """Raise `ArtifactError` unless `name` can name an artifact."""
    if not re.fullmatch(_WORD, name):
        raise ArtifactError(
            f"artifact name {name!r} is malformed; use up to 128 letters, digits, '.', '_' and '-', "
            "a letter or a digit first"
        )


def check_own_name(name: str) -> None:
    """Raise `ArtifactError` unless `name` can name what is made here."""
    check_name(name)
    if name.startswith(FOREIGN_PREFIX):
        raise ArtifactError(
            f"artifact name {name!r} is reserved: what begins with {FOREIGN_PREFIX!r} is from W&B; choose another"
        )


def type_fits(type_: str, expected: str) -> bool:
    """Whether an artifact of the one type can be taken for the other; W&B's "model" and "dataset" are general words."""
    general = {"model": "Model" in expected, "dataset": "Model" not in expected}
    return type_ == expected or general.get(type_, False)


def check_alias(alias: str) -> None:
    """Raise `ArtifactError` unless `alias` can be an alias: a word that is neither `latest` nor a version."""
    if not re.fullmatch(_WORD, alias) or alias == LATEST or _VERSION.fullmatch(alias):
        raise ArtifactError(
            f"alias {alias!r} cannot be used; choose a word of letters, digits, '.', '_' and '-' "
            "that is neither 'latest' nor a version like 'v3'"
        )
