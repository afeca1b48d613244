"""Whom to tell: the notification block that `[notify]` of env.toml names, or the URL of which one is made.

    [notify]
    url = "${oc.env:NOTIFY_URL}"       # a Slack webhook, any other webhook, or mailtos://… and whatever Apprise knows
    block = "slack-webhook/oncall"     # or a block that there is

A URL is a secret: it is stored in the block alone, encrypted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import SecretStr

from nemo_runspec.env_file import FILE_NAME, load_env_file
from nemo_runspec.errors import ConfigError
from nemotron.blocks.profile_lookup import fill_in
from nemotron.blocks.store_settings import project_env_file
from nemotron.deployments.registration import Change, compare

if TYPE_CHECKING:
    from prefect.blocks.abstract import NotificationBlock
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import BlockDocument

SECTION = "notify"
DOCUMENT = "nemotron-notify"
SLACK_HOSTS = ("https://hooks.slack.com/", "https://hooks.slack-gov.com/")


def read_notify(project: Path) -> Mapping[str, str]:
    """`url` or `block` of the project's env.toml, empty where it has neither.

    Raises:
        ConfigError: both, something else, or a variable that is not set.
    """
    table = load_env_file(project_env_file(project)).get(SECTION) or {}
    origin = f"{FILE_NAME}: [{SECTION}]"
    if unknown := sorted(set(table) - {"url", "block"}):
        raise ConfigError(f"{origin}: {unknown[0]}: no such key; expected url or block")
    if len(table) > 1:
        raise ConfigError(f"{origin}: both url and block; drop one")
    if any(not (isinstance(value, str) and value) for value in table.values()):
        raise ConfigError(f"{origin}: expected text")
    filled: dict[str, str] = fill_in(table, origin)
    if "url" in filled:
        build_block(filled["url"])
    return filled


def build_block(url: str) -> NotificationBlock:
    """The block for a URL.

    Raises:
        ConfigError: nobody can be told at such a URL.
    """
    from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook

    if url.startswith(("http://", "https://")) and not url.startswith(SLACK_HOSTS):
        return CustomWebhookNotificationBlock.model_validate(
            {
                "name": "nemotron",
                "url": "{{ url }}",
                "json_data": {"text": "{{ subject }}\n{{ body }}"},
                "secrets": {"url": url},
            }
        )
    import apprise

    if apprise.Apprise.instantiate(url) is None:
        raise ConfigError(
            f"{FILE_NAME}: [{SECTION}] url: not http(s)://…, nor a URL that Apprise knows, as mailtos://…"
        )
    return SlackWebhook(url=SecretStr(url))  # it hands any URL to Apprise


def plan_block(client: SyncPrefectClient, url: str) -> Change:
    """Have the block of that URL."""
    block = build_block(url)
    found = read_document(client, str(block.get_block_type_slug()), DOCUMENT)
    wanted = reveal(block)
    held = reveal(type(block).model_validate(found.data)) if found else None

    def apply() -> None:
        block.save(DOCUMENT, overwrite=True)

    return compare(f"block {block.get_block_type_slug()}/{DOCUMENT}", wanted, held, apply)


def block_id(client: SyncPrefectClient, notify: Mapping[str, str]) -> UUID | None:
    """The id of the block that is named, or of that of the URL; None where this is yet to be made.

    Raises:
        ConfigError: the block that is named is not there, or is not for notifications.
    """
    if "url" in notify:
        found = read_document(client, str(build_block(notify["url"]).get_block_type_slug()), DOCUMENT)
        return found.id if found else None
    slug, _, name = notify["block"].partition("/")
    document = read_document(client, slug, name) if slug and name else None
    if document is None:
        raise ConfigError(
            f"{FILE_NAME}: [{SECTION}] block = {notify['block']!r}: not on the server; expected TYPE/NAME, as "
            "slack-webhook/oncall; create it in the UI, or give url"
        )
    if document.block_schema is None or "notify" not in document.block_schema.capabilities:
        raise ConfigError(f"{FILE_NAME}: [{SECTION}] block = {notify['block']!r}: not a block for notifications")
    return document.id


def read_document(client: SyncPrefectClient, slug: str, name: str) -> BlockDocument | None:
    """The block's document with its secrets, None if there is none."""
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_block_document_by_name(name, slug)
    except ObjectNotFound:
        return None


def reveal(block: NotificationBlock) -> dict[str, Any]:
    """The block's fields with secrets as text."""
    return {
        key: value.get_secret_value() if hasattr(value, "get_secret_value") else value
        for key, value in block
        if key in type(block).model_fields
    }
