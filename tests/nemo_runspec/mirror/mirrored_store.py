"""A store with a project of its own on a W&B server, as the tests publish to it, sync it, and look at both sides."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

import psutil
from pydantic import SecretStr

from nemo_runspec.artifacts import ArtifactRef, ArtifactStore, Producer
from nemo_runspec.artifacts.refs import Policy
from nemo_runspec.mirror.server import WandbServer
from nemo_runspec.mirror.sync import SyncReport, sync
from nemo_runspec.mirror.target import WandbTarget, wandb_run_id

CLIENT = Path(__file__).with_name("wandb_client.py")
SYNC_PROCESS = Path(__file__).with_name("sync_process.py")
TIMEOUT_S = 60.0
MAX_LIFE_S = 4.0


class Server(Protocol):
    """The double, or a real server."""

    url: str
    key: str
    entity: str

    @property
    def env(self) -> dict[str, str]:
        """What makes the client speak to it."""

    def project_state(self, project: str) -> dict[str, Any]:
        """Runs and artifact collections of a project of the entity."""


@dataclass(kw_only=True)
class MirroredStore:
    """`entity` None leaves it to the key."""

    folder: Path
    server: Server
    project: str
    run_id: str = "run-1"

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(self.folder / "store")

    @property
    def wandb(self) -> WandbServer:
        return WandbServer(base_url=self.server.url, api_key=SecretStr(self.server.key))

    def target(self, stage: str, *, metrics: Path | None = None) -> WandbTarget:
        """The W&B run of a stage."""
        return WandbTarget(
            mode="offline",
            entity=self.server.entity,
            project=self.project,
            base_url=self.server.url,
            run_id=wandb_run_id(self.run_id, stage),
            name=f"{stage} {self.run_id}",
            group=self.run_id,
            job_type=stage,
            metrics=str(metrics) if metrics else None,
        )

    def publish(
        self,
        name: str,
        *,
        stage: str | None = None,
        inputs: Sequence[ArtifactRef] = (),
        files: Sequence[str] = ("a.bin",),
        metadata: dict[str, Any] | None = None,
        policy: Policy = "copy",
        aliases: Sequence[str] = (),
        mirrored: bool = True,
        metrics: Path | None = None,
    ) -> ArtifactRef:
        """A version whose files hold their own names."""
        stage = stage or f"make-{name}"
        for file in files:
            path = self.folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file)
        return self.store.publish(
            self.folder / name,
            name=name,
            type="DataArtifact",
            metadata=metadata or {},
            producer=Producer(run_id=self.run_id, stage=stage, fingerprint=f"f-{stage}"),
            inputs=inputs,
            policy=policy,
            aliases=aliases,
            wandb=self.target(stage, metrics=metrics) if mirrored else None,
        )

    def publish_chain(self, *, after_each: Callable[[ArtifactRef], object] = lambda _: None) -> list[ArtifactRef]:
        """Six versions, each made from some before it, as those of a training pipeline."""
        made: dict[str, ArtifactRef] = {}
        for name, needed, policy in CHAIN:
            inputs = [made[name] for name in needed]
            made[name] = self.publish(name, inputs=inputs, policy=policy, aliases=[f"{name}-of-{self.run_id}"])
            after_each(made[name])
        return list(made.values())

    def sync(self, *only: ArtifactRef, timeout_s: float = TIMEOUT_S, server: WandbServer | None = None) -> SyncReport:
        """Send these, or all that waits."""
        return sync(self.store, server or self.wandb, only=only or None, timeout_s=timeout_s)

    def start_sync(self, *references: str) -> subprocess.Popen[str]:
        """The same in a process of its own."""
        return subprocess.Popen(
            [sys.executable, str(SYNC_PROCESS), str(self.folder / "store"), *references],
            env={**os.environ, **self.server.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def sync_with_a_death(self, part: str, wait: Callable[[], object]) -> str:
        """What a sync says of which, after the waiting, the process with this word in its command was killed."""
        process = self.start_sync()
        wait()
        children = psutil.Process(process.pid).children(recursive=True)
        (victim,) = [child for child in children if any(part in word for word in child.cmdline()[:4])]
        victim.kill()
        return process.communicate(timeout=300)[0]

    def sync_at_once(self, *references: str) -> None:
        """A process for each of the references, all at the same time."""
        processes = [self.start_sync(reference) for reference in references]
        outputs = [process.communicate(timeout=300)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * len(processes), outputs

    def sync_with_kills(self, num_kills: int, *, seed: int) -> int:
        """Kill syncs at random moments, alone or with all that they started; then let one end. How many it took."""
        random = Random(seed)
        for _ in range(num_kills):
            process = self.start_sync()
            with suppress(subprocess.TimeoutExpired):
                process.wait(random.uniform(0.2, MAX_LIFE_S))
            _kill(process, with_children=random.random() < 0.5)
        last = self.start_sync()
        output, _ = last.communicate(timeout=300)
        assert last.returncode == 0, output
        return num_kills

    @property
    def place(self) -> str:
        """`entity/project`."""
        return f"{self.server.entity}/{self.project}"

    def client(self, task: str, *words: str) -> dict[str, Any]:
        """What `wandb_client.py` answers: W&B's own client in a process of its own."""
        wandb_dir = self.folder / "wandb-client"
        wandb_dir.mkdir(exist_ok=True)
        directories = ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR")
        done = subprocess.run(
            [sys.executable, str(CLIENT), task, self.place, *words],
            env={**os.environ, **self.server.env, **dict.fromkeys(directories, str(wandb_dir)), "WANDB_SILENT": "true"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def state(self) -> dict[str, Any]:
        """What the server has of the project."""
        return self.server.project_state(self.project)

    def collection(self, name: str) -> dict[str, Any]:
        """What the server has of an artifact."""
        found: dict[str, Any] = self.state()["collections"][name]
        return found

    def newest(self, name: str) -> str:
        """The store's version that `latest` means on the server."""
        found = self.collection(name)
        meant: str = found["versions"][found["aliases"]["latest"]]["metadata"]["nemotron_ref"]
        return meant

    def run(self, stage: str) -> dict[str, Any]:
        """What the server has of a stage's run."""
        found: dict[str, Any] = self.state()["runs"][wandb_run_id(self.run_id, stage)]
        return found

    def graph(self) -> dict[str, Any]:
        """Used and logged versions of each run, and versions and aliases of each artifact, as the server has them."""
        state = self.state()
        runs = {
            name: {key: run[key] for key in ("name", "group", "job_type", "state")}
            | {key: sorted(run[key]) for key in ("used", "logged")}
            for name, run in state["runs"].items()
        }
        collections = {
            name: {
                "type": found["type"],
                "aliases": found["aliases"],
                "versions": {
                    version: facts["metadata"]["nemotron_ref"] for version, facts in found["versions"].items()
                },
            }
            for name, found in state["collections"].items()
        }
        return {"runs": runs, "collections": collections}


CHAIN: tuple[tuple[str, tuple[str, ...], Policy], ...] = (
    ("pretrain-data", (), "copy"),
    ("base-model", ("pretrain-data",), "reference"),
    ("sft-data", (), "copy"),
    ("sft-model", ("sft-data", "base-model"), "reference"),
    ("rl-data", (), "copy"),
    ("rl-model", ("rl-data", "sft-model"), "reference"),
)


def _kill(process: subprocess.Popen[str], *, with_children: bool) -> None:
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(process.pid)
        for one in [found, *(found.children(recursive=True) if with_children else [])]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.communicate()


def new_project() -> str:
    """A name that no project has."""
    return f"nemotron-test-{uuid.uuid4().hex[:12]}"
