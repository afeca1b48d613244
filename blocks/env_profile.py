"""The profile as a Prefect block, and where blocks of profiles are read from and saved to: a server at a given URL.

A server that is not running is never started here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, ClassVar

import httpx
from prefect.blocks.core import Block, schema_extra
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)
from pydantic import ConfigDict, Field, SecretStr, ValidationError, field_validator

from nemo_runspec.errors import ConfigError, RequirementError, did_you_mean
from nemo_runspec.profile_fields import ENV_VARS, ProfileFields, check_env_vars
from nemo_runspec.profiles import Profile, config_error

ANSWER_TIMEOUT_S = 3.0
RETRIES = 2
"""2 and 4 s later: Prefect's server answers 503 while another request holds SQLite's lock."""


def _hide_each_variable(schema: dict[str, Any], model: type[Block]) -> None:
    """The block's schema, by which the server hides each of the variables: Prefect 3.8.8 shows those of a dict."""
    schema_extra(schema, model)
    schema["secret_fields"] = [f"{name}.*" if name == "env_vars" else name for name in schema["secret_fields"]]


class EnvProfile(ProfileFields, Block):
    """A profile as a Prefect block; each of its variables is a secret."""

    _block_type_name: ClassVar[str | None] = "Nemotron env profile"
    _block_type_slug: ClassVar[str | None] = "nemotron-env-profile"
    _description: ClassVar[str | None] = "Where and how stages run: this machine or a Slurm cluster, as in env.toml."

    model_config = ConfigDict(extra="allow", json_schema_extra=_hide_each_variable)

    env_vars: dict[str, SecretStr] = Field(default_factory=dict, description=f"{ENV_VARS}; hidden in the UI")
    profile_name: str = Field(
        default="", description="The profile's name where it is not the block's, which has no capitals and no _"
    )

    @field_validator("env_vars", mode="before")
    @classmethod
    def _check_env_vars(cls, value: Any) -> Any:
        return check_env_vars(reveal(value) if isinstance(value, dict) else value)

    @classmethod
    def from_profile(cls, profile: Profile, *, name: str = "") -> EnvProfile:
        """The block of that profile."""
        fields = {field: value for field, value in profile if value != Profile.model_fields[field].get_default()}
        return cls(**fields, profile_name=name)

    def to_profile(self, *, origin: str = "block") -> Profile:
        """The profile in this block; `origin` begins the message if it is refused.

        Raises:
            ConfigError: a field that does not exist, or one that was set to what it may not hold.
        """
        own = set(Profile.model_fields)
        # Prefect lets a block hold any field; one with a typing error would go unnoticed.
        unknown = sorted(set(self.model_extra or {}) - {"block_type_slug"})
        if unknown:
            guess = did_you_mean(unknown[0], own)
            raise ConfigError(f"{origin}: {', '.join(unknown)}: no such field.{guess} Correct this in the block")
        values = {field: value for field, value in self if field in own}
        try:
            return Profile.model_validate({**values, "env_vars": reveal(self.env_vars)})
        except ValidationError as error:
            raise config_error(error, origin=origin) from None  # its input may hold secrets


def reveal(variables: dict[str, Any]) -> dict[str, Any]:
    """The variables with their secrets as text."""
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in variables.items()
    }


def document_name(name: str) -> str:
    """The name of the block of that profile: Prefect allows lower case, digits and dashes.

    Raises:
        ConfigError: nothing of the name can stay.
    """
    document = re.sub(r"[^a-z0-9-]", "-", name.lower())
    if not document.strip("-"):
        raise ConfigError(f"profile {name!r}: the name of a block needs letters a-z or digits; rename the profile")
    return document


def read_profile(name: str, url: str) -> Profile | None:
    """The profile in the block of that name, None if there is none.

    Raises:
        RequirementError: the server does not answer within seconds, or not as a Prefect server.
        ConfigError: the block holds what a profile may not.
    """
    document = _read_document(document_name(name), url)
    if document is None or stored_name(document) != name:
        return None
    return profile_of(document, url)


def list_documents(url: str) -> list[BlockDocument]:
    """The documents of all profiles' blocks, by name, secrets included; raises as `read_profile`."""
    with prefect_client(url) as client:
        try:
            # Prefect 3.8.8: the route gives all at once, whatever limit and offset it is given.
            documents = client.read_block_documents_by_type(EnvProfile.get_block_type_slug())
        except (ObjectNotFound, PrefectHTTPStatusError) as error:
            unknown = isinstance(error, ObjectNotFound) or error.response.status_code == HTTPStatus.NOT_FOUND
            if not unknown or client.api_healthcheck() is not None:
                raise
            return []  # no block of this type was ever saved
    return sorted(documents, key=stored_name)


def stored_name(document: BlockDocument) -> str:
    """The name of the profile in that document."""
    return str(document.data.get("profile_name") or document.name)


def profile_of(document: BlockDocument, url: str) -> Profile:
    """The profile in that document of the server at `url`; ConfigError if it is not one."""
    origin = f"block {EnvProfile.get_block_type_slug()}/{document.name} on {url}"
    try:
        block = EnvProfile.model_validate(dict(document.data))
    except ValidationError as error:
        raise config_error(error, origin=origin) from None  # its input may hold secrets
    return block.to_profile(origin=origin)


def save_profile(name: str, profile: Profile, *, url: str, overwrite: bool = False) -> str:
    """Save the profile as a block; returns `<type>/<document>`.

    Raises:
        ConfigError: a block of this name exists and `overwrite` is not set, or it holds another profile.
        RequirementError: as `read_profile`.
    """
    check_saveable(name, url=url, overwrite=overwrite)
    document, block = document_name(name), EnvProfile.from_profile(profile, name=name)
    with prefect_client(url):
        block.save(document, overwrite=overwrite)
    return f"{EnvProfile.get_block_type_slug()}/{document}"


def check_saveable(name: str, *, url: str, overwrite: bool) -> None:
    """Raise ConfigError if `save_profile` would not save a profile of that name."""
    document = _read_document(document_name(name), url)
    if document is None:
        return
    if stored_name(document) != name:
        raise ConfigError(
            f"profile {name!r}: block {document.name!r} on {url} holds profile {stored_name(document)!r}, whose name "
            "differs only in what the name of a block cannot hold; rename one of them"
        )
    if not overwrite:
        raise ConfigError(f"profile {name!r}: block {document.name!r} on {url} exists; use --overwrite to replace it")


@contextmanager
def prefect_client(url: str, *, timeout_s: float | None = None) -> Iterator[SyncPrefectClient]:
    """A client of the server at `url` that waits `ANSWER_TIMEOUT_S`, not minutes; in the block Prefect uses it too.

    Raises:
        RequirementError: no answer, or not that of a Prefect server, with the reason.
    """
    settings = {
        PREFECT_API_URL: url,
        PREFECT_API_REQUEST_TIMEOUT: ANSWER_TIMEOUT_S if timeout_s is None else timeout_s,
        PREFECT_CLIENT_MAX_RETRIES: RETRIES,
    }
    try:
        with temporary_settings(settings), get_client(sync_client=True) as client:
            yield client
    except PrefectHTTPStatusError as error:
        status = f"{error.response.status_code} {error.response.reason_phrase}"
        raise RequirementError(f"Prefect API {url} answered {status}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RequirementError(f"Prefect API {url} does not answer: {error or type(error).__name__}") from error
    except (json.JSONDecodeError, ValidationError):
        raise RequirementError(f"Prefect API {url} does not answer as one; it should end in /api") from None


def _read_document(document: str, url: str) -> BlockDocument | None:
    with prefect_client(url) as client:
        try:
            return client.read_block_document_by_name(document, EnvProfile.get_block_type_slug())
        except ObjectNotFound:
            return None
