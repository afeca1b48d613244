"""What the client may change: GraphQL's `Mutation`. Inputs are dicts with GraphQL's names."""

from typing import Any
from urllib.parse import quote

from graphql import GraphQLError

from wandb_server.artifacts import Artifact, Collection
from wandb_server.blobs import file_name, hexadecimal
from wandb_server.graph import connect, node_id, snake_case
from wandb_server.runs import Run
from wandb_server.state import Queries

Input = dict[str, Any]

_RUN_FIELDS = (
    *("displayName", "notes", "config", "commit", "jobType", "groupName", "tags", "summaryMetrics", "state"),
    "description",
)


class Root(Queries):
    """All that an operation can ask for."""

    def upsert_bucket(self, input: Input) -> dict[str, Any]:
        project = self.state.create_project(input.get("entityName"), input.get("modelName") or "uncategorized")
        by_id = [run for run in self.state.runs.values() if run.id == input.get("id")]
        run = by_id[0] if by_id else self.state.runs.get((*project.key, input["name"]))
        inserted = run is None
        if run is None:
            run = self.state.runs[(*project.key, input["name"])] = Run(project, input["name"])
        run.state = "running"
        for field in _RUN_FIELDS:
            if input.get(field) is not None:
                setattr(run, snake_case(field), input[field])
        run.group = run.group_name
        return {"bucket": run, "inserted": inserted}

    def create_artifact(self, input: Input) -> dict[str, Any]:
        state = self.state
        project = state.create_project(input["entityName"], input["projectName"])
        collection = self._collection(
            input["entityName"], input["projectName"], input["artifactCollectionName"], input["artifactTypeName"]
        )
        run = state.get_run(*project.key, input["runName"]) if input.get("runName") else None
        artifact = self._same(collection, input)
        if artifact is None:
            artifact = Artifact(state, collection, run, input)
            state.artifacts[artifact.id] = artifact
        elif artifact.state == "COMMITTED":
            collection.add(artifact, [alias["alias"] for alias in input.get("aliases") or []])
        if run and artifact not in run.logged:
            run.logged.append(artifact)
        state.client_ids |= {input[key]: artifact for key in ("clientID", "sequenceClientID") if input.get(key)}
        return {"artifact": artifact}

    def _collection(
        self, entity: str | None, project_name: str, name: str, type_name: str, kind: str = "ArtifactSequence"
    ) -> Collection:
        project = self.state.create_project(entity, project_name)
        found = self.state.collections.setdefault(
            (*project.key, name), Collection(project, name, type_name, graphql_type=kind)
        )
        if found.type_name != type_name:
            raise GraphQLError(f"artifact {name} already exists with type {found.type_name}, not {type_name}")
        return found

    def _same(self, collection: Collection, input: Input) -> Artifact | None:
        """What this is another part of, or a committed version with the same digest."""
        if input.get("distributedID"):
            parts = [found for found in self.state.artifacts.values() if found.artifact_sequence is collection]
            return next((found for found in parts if found.distributed_id == input["distributedID"]), None)
        if not input.get("enableDigestDeduplication"):
            return None
        return next((found for found in collection.versions if found and found.digest == input["digest"]), None)

    def create_artifact_manifest(self, input: Input) -> dict[str, Any]:
        return self._manifest(self.state.get_artifact(input["artifactID"]), self.state.new_id("ArtifactManifest"))

    def update_artifact_manifest(self, input: Input) -> dict[str, Any]:
        return self._manifest(self.state.manifests[input["artifactManifestID"]], input["artifactManifestID"])

    def _manifest(self, artifact: Artifact, manifest_id: str) -> dict[str, Any]:
        self.state.manifests[manifest_id] = artifact
        url = self.state.blobs.url("manifest", file_name(manifest_id))
        file = {"id": node_id("File", manifest_id), "name": "wandb_manifest.json", "uploadUrl": url, "directUrl": url}
        artifact.current_manifest = {"id": manifest_id, "file": file | {"uploadHeaders": []}}
        return {"artifactManifest": artifact.current_manifest}

    def create_artifact_files(self, input: Input) -> dict[str, Any]:
        return {"files": connect([self._upload(wanted) for wanted in input["artifactFiles"]])}

    def _upload(self, wanted: Input) -> dict[str, Any]:
        """Where to put a file; no URL if its content is here already."""
        artifact = self.state.get_artifact(wanted["artifactID"])
        blobs, name = self.state.blobs, hexadecimal(wanted["md5"])
        numbers = [part["partNumber"] for part in wanted.get("uploadPartsInput") or []]
        parts = [{"partNumber": number, "uploadUrl": blobs.url("blob", f"{name}.{number}")} for number in numbers]
        needed = not blobs.has(wanted["md5"])
        return {
            "id": node_id("File", artifact.id + wanted["name"]),
            "name": wanted["name"],
            "storagePath": f"wandb_artifacts/{artifact.id}/{name}",
            "artifact": artifact,
            "uploadHeaders": [],
            "uploadUrl": blobs.url("blob", name) if needed else None,
            "uploadMultipartUrls": {"uploadID": name, "uploadUrlParts": parts} if needed and parts else None,
        }

    def complete_multipart_upload_artifact(self, input: Input) -> dict[str, Any]:
        numbers = [part["partNumber"] for part in input["completedParts"]]
        return {"digest": self.state.blobs.join_parts(input["uploadID"], numbers)}

    def commit_artifact(self, input: Input) -> dict[str, Any]:
        artifact = self.state.get_artifact(input["artifactID"])
        artifact.commit()
        return {"artifact": artifact}

    def use_artifact(self, input: Input) -> dict[str, Any]:
        artifact = self.state.get_artifact(input["artifactID"])
        run = self.state.get_run(input["entityName"], input["projectName"], input["runName"])
        if artifact not in run.used:
            run.used.append(artifact)
        if run not in artifact.users:
            artifact.users.append(run)
        return {"artifact": artifact}

    def add_aliases(self, input: Input) -> dict[str, Any]:
        artifact = self.state.get_artifact(input["artifactID"])
        for collection, alias in self._aliases(artifact, input):
            collection.alias_versions[alias] = collection.versions.index(artifact)
        return {"success": True}

    def delete_aliases(self, input: Input) -> dict[str, Any]:
        for collection, alias in self._aliases(self.state.get_artifact(input["artifactID"]), input):
            collection.alias_versions.pop(alias, None)
        return {"success": True}

    def _aliases(self, artifact: Artifact, input: Input) -> list[tuple[Collection, str]]:
        entity, project = artifact.artifact_sequence.project.key
        found = []
        for given in input["aliases"]:
            place = (given.get("entityName") or entity, given.get("projectName") or project)
            found.append((self.state.collections[(*place, given["artifactCollectionName"])], given["alias"]))
        return found

    def update_artifact(self, input: Input) -> dict[str, Any]:
        artifact = self.state.get_artifact(input["artifactID"])
        artifact.description = input.get("description") or artifact.description
        artifact.metadata = input.get("metadata") or artifact.metadata
        return {"artifact": artifact}

    def delete_artifact(self, input: Input) -> dict[str, Any]:
        artifact = self.state.get_artifact(input["artifactID"])
        collection, index = artifact.artifact_sequence, artifact.version_index
        if index in collection.alias_versions.values() and not input.get("deleteAliases"):
            raise GraphQLError("artifact has aliases")
        collection.alias_versions = {alias: n for alias, n in collection.alias_versions.items() if n != index}
        collection.versions[index or 0] = None
        artifact.state = "DELETED"
        return {"artifact": artifact}

    def link_artifact(self, input: Input) -> dict[str, Any]:
        artifact = self.state.get_artifact(input.get("artifactID") or input["clientID"])
        portfolio = self._collection(
            input.get("entityName"),
            input["projectName"],
            input["artifactPortfolioName"],
            artifact.artifact_sequence.type_name,
            "ArtifactPortfolio",
        )
        aliases = [alias["alias"] for alias in input.get("aliases") or []]
        index = portfolio.add(artifact, ["latest", *aliases])
        return {"versionIndex": index, "artifactMembership": portfolio.artifact_membership(f"v{index}")}

    def create_run_files(self, input: Input) -> dict[str, Any]:
        run = self.state.get_run(input["entityName"], input["projectName"], input["runName"])
        names = {name: file_name(f"{run.id}/{name}") for name in input["files"]}
        files = [{"name": quote(name), "uploadUrl": self.state.blobs.url("run", kept)} for name, kept in names.items()]
        return {"runID": run.id, "uploadHeaders": [], "files": files}

    def mark_run_files_uploaded(self, input: Input) -> dict[str, Any]:
        del input
        return {"success": True}
