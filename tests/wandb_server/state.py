"""All that the server knows, and the queries for it."""

import os
from typing import Any

from graphql import GraphQLError

from wandb_server.artifacts import Artifact, Collection
from wandb_server.blobs import Blobs
from wandb_server.graph import node_id
from wandb_server.runs import Project, Run, entity_node

FEATURES = (
    "LARGE_FILENAMES",
    "ARTIFACT_TAGS",
    "PROJECT_ARTIFACT_COLLECTION_MEMBERSHIP",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILES",
    "USE_ARTIFACT_WITH_ENTITY_AND_PROJECT_INFORMATION",
    "EXPAND_DEFAULT_PROJECT_TO_ENTITY",
)


class State:
    """Projects, runs and artifacts; `entity` is the one of whoever has the key."""

    def __init__(self, blobs: Blobs, entity: str) -> None:
        self.blobs = blobs
        self.entity = entity
        self.projects: dict[tuple[str, str], Project] = {}
        self.runs: dict[tuple[str, str, str], Run] = {}
        self.collections: dict[tuple[str, str, str], Collection] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.client_ids: dict[str, Artifact] = {}
        self.manifests: dict[str, Artifact] = {}
        self.num_operations: dict[str, int] = {}
        self._num_ids = 0

    def new_id(self, kind: str) -> str:
        """An id that nothing has."""
        self._num_ids += 1
        return node_id(kind, self._num_ids)

    def create_project(self, entity: str | None, name: str) -> Project:
        """The project, made if need be; no entity means that of the key."""
        key = (entity or self.entity, name)
        return self.projects.setdefault(key, Project(self, *key))

    def find_run(self, entity: str | None, project: str, name: str | None) -> Run | None:
        return self.runs.get((entity or self.entity, project, name or ""))

    def get_run(self, entity: str | None, project: str, name: str | None) -> Run:
        """The run.

        Raises:
            GraphQLError: there is none of that name.
        """
        run = self.find_run(entity, project, name)
        if run is None:
            raise GraphQLError(f"run not found: {entity}/{project}/{name}")
        return run

    def get_artifact(self, any_id: str) -> Artifact:
        """The artifact with this id, the server's own or the client's.

        Raises:
            GraphQLError: there is none.
        """
        found = self.artifacts.get(any_id) or self.client_ids.get(any_id)
        if found is None:
            raise GraphQLError(f"artifact not found: {any_id}")
        return found

    def viewer(self) -> dict[str, Any]:
        """Whom the key belongs to."""
        nothing: dict[str, list[object]] = {"edges": []}
        return {
            "id": node_id("User", 1),
            "entity": self.entity,
            "username": self.entity,
            "name": self.entity,
            "email": "double@localhost",
            "admin": False,
            "flags": "{}",
            "teams": nothing,
            "apiKeys": nothing,
            "defaultEntity": entity_node(self.entity),
        }

    def facts(self) -> dict[str, Any]:
        """Everything, as tests look at it."""
        return {
            "operations": self.num_operations,
            "runs": {"/".join(key): run.facts() for key, run in self.runs.items()},
            "collections": {"/".join(key): found.facts() for key, found in self.collections.items()},
        }


class Queries:
    """GraphQL's `Query`."""

    def __init__(self, state: State) -> None:
        self.state = state

    def viewer(self) -> dict[str, Any]:
        return self.state.viewer()

    def server_info(self) -> dict[str, Any]:
        names = os.environ.get("WANDB_DOUBLE_FEATURES", ",".join(FEATURES)).split(",")
        versions = {"min_cli_version": "0.13.0", "max_cli_version": "99.0.0"}
        return {"cliVersionInfo": versions, "features": [{"name": name, "isEnabled": True} for name in names if name]}

    def project(self, name: str | None = None, entity_name: str | None = None) -> Project | None:
        return self.state.projects.get((entity_name or self.state.entity, name or ""))

    model = project

    def entity(self, name: str) -> dict[str, Any]:
        return entity_node(name)

    def artifact(self, id: str) -> Artifact | None:
        return self.state.artifacts.get(id)

    def client_id_mapping(self, client_id: str) -> dict[str, Any] | None:
        found = self.state.client_ids.get(client_id)
        return found and {"serverID": found.id}
