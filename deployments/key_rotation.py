"""New secrets for a team server that is down: its password, or the key of its blocks.

Prefect 3.8.8 encrypts the data of blocks, and nothing else, with one Fernet key, and has no command to change it.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from nemo_runspec.errors import ConfigError
from nemotron.deployments.background import owned
from nemotron.deployments.backup import existing_secrets, running
from nemotron.deployments.database import Database, find_database
from nemotron.deployments.secrets_file import ServerSecrets, new_auth_string, save_secrets, with_new_key


def change_auth(folder: Path) -> None:
    """Give the server a new user and password.

    Raises:
        ConfigError: no server was ever started in the folder.
        RequirementError: it is up.
    """
    secrets = existing_secrets(folder)
    with owned(folder):
        save_secrets(folder, replace(secrets, auth_string=new_auth_string()))


def change_key(folder: Path) -> str:
    """Encrypt all blocks anew; what to tell the user. Cut short, it is taken up by the next call.

    Raises:
        ConfigError: no server was ever started in the folder, or a block cannot be read with its key.
        RequirementError: it is up.
    """
    secrets = existing_secrets(folder)
    with owned(folder):
        secrets = with_new_key(secrets)
        save_secrets(folder, secrets)  # both keys, so that no moment is left in which one is lost
        database = find_database(folder, secrets)
        with running(folder, database):
            num_blocks = asyncio.run(encrypt_anew(database, secrets))
        save_secrets(folder, replace(secrets, previous_key=""))
    return f"{num_blocks} blocks encrypted anew; backups made before this need the key of the secrets.env from then"


async def encrypt_anew(database: Database, secrets: ServerSecrets) -> int:
    """Encrypt each block with the new key, all or none; how many there are."""
    import asyncpg
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet

    fernet = MultiFernet([Fernet(secrets.encryption_key), Fernet(secrets.previous_key)])
    connection = await asyncpg.connect(database.async_url.replace("+asyncpg", "", 1))
    try:
        async with connection.transaction():
            rows = await connection.fetch("SELECT id, name, data FROM block_document WHERE data IS NOT NULL FOR UPDATE")
            for row in rows:
                try:
                    token = fernet.rotate(json.loads(row["data"]).encode())
                except InvalidToken:
                    raise ConfigError(f"block {row['name']!r} cannot be read with the key; none was changed") from None
                await connection.execute(
                    "UPDATE block_document SET data = $1 WHERE id = $2", json.dumps(token.decode()), row["id"]
                )
            return len(rows)
    finally:
        await connection.close()
