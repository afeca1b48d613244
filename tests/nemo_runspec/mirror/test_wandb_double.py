"""The double of the W&B server itself, asked by W&B's unmodified client and without it."""

import base64
import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from mirrored_store import MirroredStore, new_project
from wandb_server.real import RealWandbServer
from wandb_server.server import WandbServerProcess


def ask(server: WandbServerProcess, query: str, *, key: str | None = None, **variables: Any) -> dict[str, Any]:
    authorization = base64.b64encode(f"api:{key or server.key}".encode()).decode()
    request = urllib.request.Request(
        f"{server.url}/graphql",
        json.dumps({"query": query, "variables": variables}).encode(),
        {"Authorization": f"Basic {authorization}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def test_one_process_logs_and_another_uses_it_by_alias(mirrored: MirroredStore) -> None:
    assert mirrored.client("log", "corpus", "best") == {"name": f"{mirrored.place}/corpus:v0", "state": "COMMITTED"}
    told = mirrored.client("use", "corpus:best")
    assert told["used"] == f"{mirrored.place}/corpus:v0"
    assert (told["files"], told["metadata"]) == (["rows.txt"], {"rows": 3})
    assert (told["logged_by"], told["used_by"]) == ("log-corpus", ["use"])
    files = mirrored.client("download", "corpus:best", str(mirrored.folder / "downloaded"))["files"]
    assert files == {"rows.txt": "one\ntwo\nthree\n"}
    assert mirrored.state()["runs"]["use"]["used"] == ["corpus:v0"]


def test_a_resumed_run_goes_on_with_the_next_step(mirrored: MirroredStore) -> None:
    assert mirrored.client("resume") == {"step": 0, "resumed": False}
    assert mirrored.client("resume") == {"step": 1, "resumed": True}
    run = mirrored.state()["runs"]["resumed"]
    assert [(row["_step"], row["loss"]) for row in run["history"]] == [(0, 1.0), (1, 1.0)]


@pytest.mark.slow
def test_the_api_tells_the_same_as_the_state(doubled: MirroredStore, wandb_double: WandbServerProcess) -> None:
    doubled.publish("model", inputs=[doubled.publish("data", aliases=["best"])])
    doubled.sync()
    doubled.client("resume")
    through_api = RealWandbServer(url=wandb_double.url, key=wandb_double.key, entity=wandb_double.entity)
    told, known = through_api.project_state(doubled.project), doubled.state()
    assert told["runs"] == known["runs"]
    versions = [found["versions"]["v0"] for found in known["collections"].values()]
    for version in versions:
        version["entries"] = {
            path: {"digest": entry["digest"], "ref": entry.get("ref"), "size": entry["size"]}
            for path, entry in version["entries"].items()
        }
    assert told["collections"] == known["collections"]


def test_an_unknown_key_is_refused(wandb_double: WandbServerProcess) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(wandb_double, "query Viewer { viewer { id } }", key="6" * 40)


def test_a_field_that_the_schema_lacks_is_an_error(wandb_double: WandbServerProcess) -> None:
    answer = ask(wandb_double, "query Viewer { viewer { id shoeSize } }")
    assert answer["errors"] == [{"message": "Cannot query field 'shoeSize' on type 'User'."}]
    assert wandb_double.state()["refused"]


CREATE_ARTIFACT = """
mutation CreateArtifact($project: String!, $entity: String!) {
    createArtifact(input: {
        entityName: $entity, projectName: $project, artifactTypeName: "t", artifactCollectionName: "c", digest: "d",
        digestAlgorithm: MANIFEST_MD5
    }) { artifact { id } }
}
"""
CREATE_MANIFEST = """
mutation CreateArtifactManifest($id: ID!) {
    createArtifactManifest(input: {
        artifactID: $id, name: "wandb_manifest.json", digest: "d", entityName: "e", projectName: "p", runName: ""
    }) { artifactManifest { file { uploadUrl } } }
}
"""
COMMIT = "mutation CommitArtifact($id: ID!) { commitArtifact(input: {artifactID: $id}) { artifact { state } } }"


def put(url: str, content: bytes) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, content, method="PUT"), timeout=60):
        pass


def test_a_commit_of_files_that_were_not_uploaded_is_refused(wandb_double: WandbServerProcess) -> None:
    created = ask(wandb_double, CREATE_ARTIFACT, project=new_project(), entity=wandb_double.entity)
    artifact = created["data"]["createArtifact"]["artifact"]["id"]
    manifest = ask(wandb_double, CREATE_MANIFEST, id=artifact)["data"]["createArtifactManifest"]["artifactManifest"]
    entry = {"digest": base64.b64encode(bytes(16)).decode(), "size": 1}
    put(manifest["file"]["uploadUrl"], json.dumps({"contents": {"weights": entry}}).encode())
    answer = ask(wandb_double, COMMIT, id=artifact)
    assert [error["message"] for error in answer["errors"]] == ["commit with files not uploaded: ['weights']"]


def test_an_upload_of_other_bytes_than_promised_is_refused(wandb_double: WandbServerProcess) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400"):
        put(f"{wandb_double.url}/storage/blob/{'0' * 32}", b"x")


@pytest.mark.slow
def test_a_file_of_two_gigabytes_is_uploaded_in_parts(doubled: MirroredStore, wandb_double: WandbServerProcess) -> None:
    path, size = doubled.folder / "large", (2 << 30) + 1024
    with path.open("wb") as file:
        file.truncate(size)
    before = wandb_double.state()["operations"].get("CompleteMultipartUploadArtifact", 0)
    told = doubled.client("upload", str(path))
    path.unlink()
    assert told == {"name": f"{doubled.place}/large:v0", "size": size}
    assert wandb_double.state()["operations"]["CompleteMultipartUploadArtifact"] == before + 1
