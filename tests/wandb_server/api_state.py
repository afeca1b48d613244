"""`python -m wandb_server.api_state PROJECT`: what a server tells of a project, through W&B's API.

The same as `WandbServerProcess.project_state` gets from the double, so that tests can look at a real server, too.
"""

import json
import sys
from typing import Any

import wandb
from wandb import Artifact
from wandb.apis.public import ArtifactCollection, Run


def main() -> None:
    """Print it as JSON."""
    api, project = wandb.Api(), sys.argv[1]
    collections = [found for kind in api.artifact_types(project) for found in kind.collections()]
    state = {
        "runs": {run.id: run_facts(run) for run in api.runs(project)},
        "collections": {found.name: collection_facts(found) for found in collections},
    }
    sys.stdout.write(json.dumps(state))


def run_facts(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "group": run.group,
        "job_type": run.job_type,
        "tags": run.tags,
        "notes": run.notes,
        "state": run.state,
        "config": dict(run.config),
        "history": list(run.scan_history()),
        "summary": run.summary._json_dict,
        "used": [short_name(artifact) for artifact in run.used_artifacts()],
        "logged": [short_name(artifact) for artifact in run.logged_artifacts()],
    }


def collection_facts(collection: ArtifactCollection) -> dict[str, Any]:
    versions = list(collection.artifacts())
    return {
        "type": collection.type,
        "aliases": {alias: artifact.version for artifact in versions for alias in artifact.aliases},
        "versions": {artifact.version: version_facts(artifact) for artifact in versions},
    }


def version_facts(artifact: Artifact) -> dict[str, Any]:
    entries = artifact.manifest.entries.items()
    return {
        "digest": artifact.digest,
        "metadata": artifact.metadata,
        "entries": {path: {"digest": entry.digest, "ref": entry.ref, "size": entry.size} for path, entry in entries},
    }


def short_name(artifact: Artifact) -> str:
    """`name:vN`."""
    return artifact.source_qualified_name.rpartition("/")[2]


main()
