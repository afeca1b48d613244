"""`python wandb_client.py log|use|delete|resume|upload PLACE …`: what a user's own script does with W&B's client.

`PLACE` is `entity/project`. The answer is JSON on standard output.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import wandb


def log(place: str, name: str, alias: str) -> dict[str, Any]:
    """Log a file as an artifact."""
    with open_run(place, f"log-{name}") as run:
        artifact = wandb.Artifact(name, type="data", metadata={"rows": 3})
        with artifact.new_file("rows.txt") as file:
            file.write("one\ntwo\nthree\n")
        run.log_artifact(artifact, aliases=[alias]).wait()
        return {"name": artifact.source_qualified_name, "state": artifact.state}


def use(place: str, reference: str) -> dict[str, Any]:
    """Use an artifact, log another, and say what the server then tells of both."""
    with open_run(place, "use") as run:
        used = run.use_artifact(reference)
        made = wandb.Artifact("made", type="data")
        with made.new_file("made.txt") as file:
            file.write(used.digest)
        run.log_artifact(made).wait()
    api = wandb.Api()
    maker = api.artifact(used.source_qualified_name).logged_by()
    return {
        "used": used.source_qualified_name,
        "metadata": dict(used.metadata),
        "files": sorted(used.manifest.entries),
        "logged_by": maker.id if maker else None,
        "used_by": [user.id for user in api.artifact(used.source_qualified_name).used_by()],
    }


def download(place: str, reference: str, target: str) -> dict[str, Any]:
    """Put the artifact's files there."""
    wandb.Api().artifact(f"{place}/{reference}").download(target)
    return {"files": {path.name: path.read_text() for path in Path(target).iterdir()}}


def delete(place: str, reference: str) -> dict[str, Any]:
    """Delete a version with its aliases."""
    wandb.Api().artifact(f"{place}/{reference}").delete(delete_aliases=True)
    return {}


def resume(place: str) -> dict[str, Any]:
    """Log a row in a run that may be there already."""
    with open_run(place, "resumed") as run:
        step = run.starting_step
        run.log({"loss": 1.0})
        return {"step": step, "resumed": run.resumed}


def upload(place: str, path: str) -> dict[str, Any]:
    """Log a large file as an artifact."""
    with open_run(place, "upload") as run:
        artifact = wandb.Artifact("large", type="data")
        artifact.add_file(path, policy="immutable", skip_cache=True)
        run.log_artifact(artifact).wait()
        return {"name": artifact.source_qualified_name, "size": artifact.size}


def open_run(place: str, run_id: str) -> wandb.Run:
    entity, _, project = place.partition("/")
    return wandb.init(entity=entity, project=project, id=run_id, job_type=run_id, resume="allow")


def main() -> None:
    """Do it and print the answer."""
    tasks: dict[str, Callable[..., dict[str, Any]]] = {
        task.__name__: task for task in (log, use, download, delete, resume, upload)
    }
    sys.stdout.write(json.dumps(tasks[sys.argv[1]](*sys.argv[2:])))


main()
