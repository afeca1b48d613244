"""`python foreign_client.py PLACE FOLDER BUCKET`: logs artifacts as others do, with W&B's own client only.

`PLACE` is `entity/project`. Files that are referenced lie in FOLDER, objects in BUCKET (`s3://…`).
"""

import sys
from pathlib import Path

import wandb
from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry


def corpus(text: str) -> wandb.Artifact:
    """Uploaded files."""
    artifact = wandb.Artifact("corpus", type="dataset", metadata={"rows": 3, "inner": {"pack_size": 8}})
    for name in ("a.txt", "sub/b c.txt"):
        with artifact.new_file(name) as file:
            file.write(f"{text} {name}")
    return artifact


def referring(name: str, *refs: str, checksum: bool = True, kind: str = "model") -> wandb.Artifact:
    """References to local files."""
    artifact = wandb.Artifact(name, type=kind, metadata={"iteration": 100})
    for ref in refs:
        artifact.add_reference(ref, checksum=checksum)
    return artifact


def with_entry(name: str, path: str, ref: str, **entry: object) -> wandb.Artifact:
    """An entry as no client would need to make it here."""
    artifact = wandb.Artifact(name, type="dataset")
    # Not by `add_entry`, which looks at the path.
    artifact.manifest.entries[path] = ArtifactManifestEntry(path=path, ref=ref, digest="d", **entry)
    return artifact


def main(place: str, folder: Path, bucket: str) -> None:
    """Log them all in one run."""
    entity, _, project = place.partition("/")
    mixed = referring("mixed", f"file://{folder}/ckpt/w.bin")
    with mixed.new_file("notes.txt") as file:
        file.write("uploaded")
    gone = with_entry("gone", "w.bin", f"file://{folder}/no/such/w.bin", size=1)
    with wandb.init(entity=entity, project=project, id="maker", job_type="make") as run:
        run.log_artifact(corpus("one"), aliases=["best"]).wait()
        run.log_artifact(corpus("two")).wait()
        run.log_artifact(referring("ckpt", f"file://{folder}/ckpt")).wait()
        run.log_artifact(referring("unchecked", f"file://{folder}/ckpt/w.bin", checksum=False)).wait()
        run.log_artifact(mixed).wait()
        run.log_artifact(gone).wait()
        run.log_artifact(with_entry("directory", "ckpt", f"file://{folder}/ckpt")).wait()
        run.log_artifact(with_entry("object", "in/data.bin", f"{bucket}/data.bin", size=6)).wait()
        run.log_artifact(with_entry("changed", "data.bin", f"{bucket}/data.bin", extra={"etag": "other"})).wait()
        run.log_artifact(with_entry("outside", "../evil", f"{bucket}/data.bin", size=6)).wait()
        borrowed = wandb.Artifact("borrowed", type="dataset")
        entry = wandb.Api().artifact(f"{place}/corpus:v0").get_entry("a.txt")
        borrowed.add_reference(entry.ref_url(), name="of-corpus.txt")
        run.log_artifact(borrowed).wait()
        posing = wandb.Artifact("posing", type="dataset")
        with posing.new_file("nemotron/manifest.json") as file:
            file.write("{}")
        run.log_artifact(posing).wait()
        linked = run.log_artifact(corpus("three")).wait()
        run.link_artifact(linked, f"{entity}/links/shelf")


main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
