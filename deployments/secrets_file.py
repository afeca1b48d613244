"""The team server's secrets: made once, kept in `secrets.env` beside its database and never in it."""

from __future__ import annotations

import base64
import os
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path

from nemo_runspec.errors import ConfigError, RequirementError

FILE_NAME = "secrets.env"
ABOUT = """\
# Secrets of the team server. Keep a copy apart from the database's backups: without the encryption key nobody can read
# the secrets in its blocks, and whoever has both can.
"""
_NAMES = {
    "auth_string": "PREFECT_SERVER_API_AUTH_STRING",
    "encryption_key": "PREFECT_SERVER_ENCRYPTION_KEY",
    "previous_key": "NEMOTRON_PREVIOUS_ENCRYPTION_KEY",
    "database_password": "POSTGRES_PASSWORD",
    "database_url": "NEMOTRON_DATABASE_URL",
}


@dataclass(frozen=True, kw_only=True)
class ServerSecrets:
    """`database_url` only for a database that is not the server's own; `previous_key` while the key is changed."""

    auth_string: str = field(repr=False)
    encryption_key: str = field(repr=False)
    database_password: str = field(repr=False)
    database_url: str = field(default="", repr=False)
    previous_key: str = field(default="", repr=False)


def new_secrets(*, database_url: str = "") -> ServerSecrets:
    """Random ones."""
    return ServerSecrets(
        auth_string=new_auth_string(),
        encryption_key=new_encryption_key(),
        database_password=secrets.token_urlsafe(24),
        database_url=database_url,
    )


def new_auth_string() -> str:
    """A user name and a random password, as HTTP's basic authentication takes them."""
    return f"nemotron:{secrets.token_urlsafe(24)}"


def new_encryption_key() -> str:
    """A random key of cryptography.fernet: 32 bytes in base64."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def load_secrets(folder: Path) -> ServerSecrets | None:
    """What the folder's file holds; None without one.

    Raises:
        ConfigError: something is missing in it.
        RequirementError: it cannot be read.
    """
    path = folder / FILE_NAME
    values = read_env_file(path)
    if values is None:
        return None
    found = {name: values.get(variable, "") for name, variable in _NAMES.items()}
    for name in ("auth_string", "encryption_key", "database_password"):
        if not found[name]:
            raise ConfigError(f"{path}: {_NAMES[name]} is missing; put back the line, or the whole file from your copy")
    return ServerSecrets(**found)


def save_secrets(folder: Path, wanted: ServerSecrets) -> None:
    """Write them for this user alone (0600), at once or not at all."""
    lines = [f"{variable}={value}" for name, variable in _NAMES.items() if (value := getattr(wanted, name))]
    partial = folder / f"{FILE_NAME}.partial"
    partial.unlink(missing_ok=True)
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(ABOUT + "\n".join(lines) + "\n")
        file.flush()
        os.fsync(fd)
    partial.replace(folder / FILE_NAME)


def with_new_key(old: ServerSecrets) -> ServerSecrets:
    """A new encryption key, and the old one as the previous; the same where a change is under way already."""
    return (
        old if old.previous_key else replace(old, encryption_key=new_encryption_key(), previous_key=old.encryption_key)
    )


def read_env_file(path: Path) -> dict[str, str] | None:
    """The values of a file of `NAME=VALUE` lines, `#` begins a comment line; None if there is no such file.

    Raises:
        ConfigError: a line that is none of these.
        RequirementError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RequirementError(f"{path}: {error.strerror}; only the user who runs the server can read it") from error
    values = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            name, equals, value = line.partition("=")
            if not equals:
                raise ConfigError(f"{path}, line {number}: expected NAME=VALUE, found {name!r}")
            values[name.strip()] = value.strip()
    return values
