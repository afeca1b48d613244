"""The team server's database: a cluster of its own, or one elsewhere by its URL."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from nemo_runspec.errors import ConfigError
from nemotron.deployments.postgres import Cluster, find_cluster
from nemotron.deployments.postgres_programs import find_programs
from nemotron.deployments.program import Program
from nemotron.deployments.secrets_file import ServerSecrets

SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
_EXPECTED = "expected postgresql://USER:PASSWORD@HOST[:PORT]/NAME"


@dataclass(frozen=True, kw_only=True)
class Database:
    """`url` is for PostgreSQL's programs, which get the password apart; `async_url`, with it, for Prefect."""

    url: str
    async_url: str
    password: str
    cluster: Cluster | None = None

    def prepare(self) -> None:
        """Make it, if it is the server's own and not there."""
        if self.cluster is not None:
            self.cluster.prepare()

    def programs(self) -> list[Program]:
        """What must run for it here."""
        return [] if self.cluster is None else [self.cluster.program()]

    def tools(self) -> Path:
        """Where pg_dump and psql are.

        Raises:
            RequirementError: not on this machine.
        """
        return find_programs() if self.cluster is None else self.cluster.programs


def find_database(folder: Path, secrets: ServerSecrets) -> Database:
    """The database of the server in that folder.

    Raises:
        ConfigError: its URL is none.
        RequirementError: it would be here, and this machine has no PostgreSQL for it.
    """
    if secrets.database_url:
        return parse_database_url(secrets.database_url)
    cluster = find_cluster(folder / "postgres", secrets.database_password)
    return Database(url=cluster.url, async_url=cluster.async_url, password=secrets.database_password, cluster=cluster)


def parse_database_url(text: str) -> Database:
    """The database elsewhere that the URL names."""
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES or not parts.path.strip("/"):
        raise ConfigError(f"--database-url {parts.scheme}://…: {_EXPECTED}")
    user = quote(unquote(parts.username), safe="") if parts.username else ""
    place = parts.netloc.rpartition("@")[2]
    netloc = f"{user}@{place}" if user else place
    return Database(
        url=urlunsplit(("postgresql", netloc, parts.path, parts.query, "")),
        async_url=urlunsplit(("postgresql+asyncpg", parts.netloc, parts.path, parts.query, "")),
        password=unquote(parts.password or ""),
    )
