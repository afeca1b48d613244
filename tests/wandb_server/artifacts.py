"""Artifact versions, the collections that number them, and aliases."""

import json
import re
from typing import TYPE_CHECKING, Any

from graphql import GraphQLError

from wandb_server.blobs import file_name, hexadecimal
from wandb_server.graph import connect, node_id
from wandb_server.runs import CREATED, ArtifactType, Project

if TYPE_CHECKING:
    from wandb_server.runs import Run
    from wandb_server.state import State

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Collection:
    """The versions of one name; `graphql_type` tells a sequence (versions made here) from a portfolio (links)."""

    created_at = updated_at = CREATED

    def __init__(self, project: Project, name: str, type_name: str, graphql_type: str) -> None:
        if not _NAME.fullmatch(name):
            raise GraphQLError(f"invalid artifact name: {name!r}")
        self.project = project
        self.name = name
        self.type_name = type_name
        self.graphql_type = graphql_type
        self.id = node_id(graphql_type, f"{project.id}/{name}")
        self.versions: list[Artifact | None] = []
        self.alias_versions: dict[str, int] = {}

    def type(self) -> ArtifactType:
        return ArtifactType(self.project, self.type_name)

    default_artifact_type = type

    def tags(self, **_page: object) -> dict[str, Any]:
        return connect([])

    def aliases(self, after: str | None = None, first: int | None = None) -> dict[str, Any]:
        return connect([Alias(self, alias) for alias in self.alias_versions], first, after)

    def latest_artifact(self) -> "Artifact | None":
        return self.versions[-1] if self.versions else None

    def artifacts(self, after: str | None = None, first: int | None = None, **_filters: object) -> dict[str, Any]:
        newest_first = [artifact for artifact in reversed(self.versions) if artifact is not None]
        return connect(newest_first, first, after, lambda node: {"node": node, "version": f"v{node.version_index}"})

    def artifact_membership(self, alias_name: str | None = None) -> "Membership | None":
        alias = alias_name or "latest"
        index = int(alias[1:]) if re.fullmatch(r"v\d+", alias) else self.alias_versions.get(alias, -1)
        there = 0 <= index < len(self.versions) and self.versions[index] is not None
        return Membership(self, index) if there else None

    def add(self, artifact: "Artifact", aliases: list[str]) -> int:
        """Make the artifact the newest version unless it is one, and let the aliases mean it; its number."""
        if artifact not in self.versions:
            self.versions.append(artifact)
        index = self.versions.index(artifact)
        self.alias_versions |= dict.fromkeys(aliases, index)
        return index

    def facts(self) -> dict[str, Any]:
        """The collection as tests look at it."""
        versions = {f"v{index}": artifact.facts() for index, artifact in enumerate(self.versions) if artifact}
        aliases = {alias: f"v{index}" for alias, index in self.alias_versions.items()}
        return {"type": self.type_name, "versions": versions, "aliases": aliases}


class Alias:
    """A name for a version of a collection."""

    def __init__(self, collection: Collection, alias: str) -> None:
        self.artifact_collection = collection
        self.alias = alias
        self.id = node_id("ArtifactAlias", f"{collection.id}/{alias}")


class Membership:
    """A version as it is called in one collection."""

    created_at = CREATED

    def __init__(self, collection: Collection, index: int) -> None:
        self.artifact_collection = collection
        self.version_index = index
        self.artifact = collection.versions[index]
        self.id = node_id("ArtifactCollectionMembership", f"{collection.id}/{index}")

    def aliases(self) -> list[Alias]:
        meanings = self.artifact_collection.alias_versions
        return [
            Alias(self.artifact_collection, alias) for alias, index in meanings.items() if index == self.version_index
        ]

    def files(self, names: list[str] | None = None, after: str | None = None, first: int | None = None) -> Any:
        return self.artifact and self.artifact.files(names, after, first)


class Artifact:
    """One version; it has a number once it is committed."""

    created_at = updated_at = CREATED
    ttl_duration_seconds = -2
    ttl_is_inherited = True

    def __init__(self, state: "State", collection: Collection, creator: "Run | None", given: dict[str, Any]) -> None:
        self.server = state
        self.artifact_sequence = collection
        self.created_by = creator
        self.id = state.new_id("Artifact")
        self.state = "PENDING"
        self.digest: str = given["digest"]
        self.metadata: str | None = given.get("metadata")
        self.description: str | None = given.get("description")
        self.history_step: int | None = given.get("historyStep")
        self.distributed_id: str | None = given.get("distributedID")
        self.wanted_aliases = [alias["alias"] for alias in given.get("aliases") or []]
        self.tags = [{"id": node_id("Tag", tag["tagName"]), "name": tag["tagName"]} for tag in given.get("tags") or []]
        self.version_index: int | None = None
        self.commit_hash: str | None = None
        self.size = self.file_count = 0
        self.current_manifest: dict[str, Any] | None = None
        self.users: list[Run] = []

    @property
    def qualified_name(self) -> str:
        """`name:vN`."""
        return f"{self.artifact_sequence.name}:v{self.version_index}"

    def artifact_type(self) -> ArtifactType:
        return self.artifact_sequence.type()

    def aliases(self) -> list[Alias]:
        return [alias for membership in self.memberships() for alias in membership.aliases()]

    def used_by(self, first: int | None = None, after: str | None = None) -> dict[str, Any]:
        return connect(self.users, first, after)

    def artifact_memberships(self) -> dict[str, Any]:
        return connect(self.memberships())

    def memberships(self) -> list[Membership]:
        """Where it is a version of something."""
        collections = self.server.collections.values()
        return [Membership(found, found.versions.index(self)) for found in collections if self in found.versions]

    def entries(self) -> dict[str, dict[str, Any]]:
        """What its manifest says of each file."""
        return self.server.blobs.manifest_entries(self.current_manifest["id"]) if self.current_manifest else {}

    def files(self, names: list[str] | None = None, after: str | None = None, first: int | None = None) -> Any:
        wanted = [(name, entry) for name, entry in sorted(self.entries().items()) if not names or name in names]
        return connect([self._file(name, entry) for name, entry in wanted], first, after)

    def files_by_manifest_entries(self, entries: list[dict[str, Any]] | None = None, **_layout: object) -> Any:
        return connect([self._file(entry["name"], entry) for entry in entries or []])

    def _file(self, name: str, entry: dict[str, Any]) -> dict[str, Any]:
        url = entry.get("ref") or self.server.blobs.url("blob", hexadecimal(entry["digest"]))
        return {
            "id": node_id("File", self.id + name),
            "name": name,
            "displayName": name,
            "digest": entry["digest"],
            "md5": entry["digest"],
            "sizeBytes": entry.get("size", 0),
            "storagePath": f"wandb_artifacts/{entry.get('birthArtifactID') or self.id}/{name}",
            "mimetype": "",
            "updatedAt": CREATED,
            "directUrl": url,
        }

    def commit(self) -> None:
        """Give it the next number and its aliases; `latest` goes to it.

        Raises:
            GraphQLError: files or the manifest were not uploaded.
        """
        if self.state == "COMMITTED":
            return
        entries = self.entries()
        if not entries:
            raise GraphQLError("commit without a manifest")
        blobs = self.server.blobs
        missing = [name for name, entry in entries.items() if "ref" not in entry and not blobs.has(entry["digest"])]
        if missing:
            raise GraphQLError(f"commit with files not uploaded: {missing[:3]}")
        self.state = "COMMITTED"
        self.size = sum(entry.get("size", 0) for entry in entries.values())
        self.file_count = len(entries)
        self.commit_hash = file_name(self.id)[:20]
        self.version_index = self.artifact_sequence.add(self, ["latest", *self.wanted_aliases])

    def facts(self) -> dict[str, Any]:
        """The version as tests look at it."""
        metadata = json.loads(self.metadata or "{}")
        return {"digest": self.digest, "metadata": metadata, "entries": self.entries()}
