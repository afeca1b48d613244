"""A pipeline whose stages have run: a data set of one source file, and a model made of it."""

import json
from pathlib import Path

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, Producer
from nemo_runspec.mirror.pins import WandbPin, add_pin
from nemotron.flows.chain import Pipeline
from nemotron.flows.nano3_stages import build_pipeline
from nemotron.tasks.stage import StageResult

PIN = WandbPin(
    server="https://wandb.example",
    qualified_name="me/flows/nano3-pretrain-model:v4",
    digest="d",
    run_path="me/flows/run-7-pretrain",
    run_url="https://wandb.example/me/flows/runs/run-7-pretrain",
    artifact_url="https://wandb.example/me/flows/artifacts/model/nano3-pretrain-model/v4",
)


def finished_run(folder: Path, *, source: str = "alice") -> Pipeline:
    """The pipeline `run-7`, with its store and its logs under `folder`; `source` is what the source file is called."""
    pipeline = build_pipeline(config="tiny", run_id="run-7", project_dir=folder)
    store = ArtifactStore(pipeline.options.store_root)
    sources = [{"name": source, "uri": "/texts/alice.txt", "size_bytes": 9, "sha256": "ab" * 32}]
    data = _publish(folder, store, "data_prep_pretrain", "nano3-pretrain-data", {"source_datasets": sources}, [])
    model = _publish(folder, store, "pretrain", "nano3-pretrain-model", {"valid_loss": 3.25}, [data])
    for stage, ref in (("data_prep_pretrain", data), ("pretrain", model)):
        pipeline.results.append(_result(folder / "work" / stage, stage, ref))
    return pipeline


def mirror(pipeline: Pipeline, pin: WandbPin = PIN) -> None:
    """Remember that the model is on W&B."""
    ref = pipeline.results[-1].ref
    assert ref is not None
    add_pin(ArtifactStore(pipeline.options.store_root), ref, pin)


def _publish(
    folder: Path, store: ArtifactStore, stage: str, name: str, metadata: dict[str, object], inputs: list[ArtifactRef]
) -> ArtifactRef:
    path = folder / "out" / name
    path.mkdir(parents=True)
    (path / "weights").write_text(name)
    producer = Producer(run_id="run-7", stage=stage, fingerprint=stage)
    kind = "ModelArtifact" if inputs else "PretrainDataArtifact"
    return store.publish(path, name=name, type=kind, metadata=metadata, producer=producer, inputs=inputs)


def _result(work_dir: Path, stage: str, ref: ArtifactRef) -> StageResult:
    work_dir.mkdir(parents=True)
    rows = [{"step": step, "total": 3, "loss": 4.0 - step} for step in range(1, 4)]
    (work_dir / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return StageResult(stage=stage, ref=ref, reused=False, seconds=1.5, work_dir=str(work_dir), made_by="run-7")
