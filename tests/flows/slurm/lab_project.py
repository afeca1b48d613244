"""A project directory whose stages run on the session's Slurm cluster and whose runs appear on its Prefect server."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.cluster import Cluster
from flow_process import FLOW, Project, wait_until
from prefect_server import ask

from nemotron.flows.parameters import form_parameters

PROFILE = '[lab]\nexecutor = "slurm"\nmem = "4G"\ntime = "00:20:00"\npoll_interval_s = 1\n'
LIVE = frozenset({"PENDING", "RUNNING", "COMPLETING", "CONFIGURING"})


@dataclass(frozen=True, kw_only=True)
class Job:
    """A row of squeue."""

    job_id: int
    state: str
    name: str


@dataclass(kw_only=True)
class LabProject(Project):
    """`known` are the pretraining jobs of earlier tests; `programs` are ended after the test."""

    cluster: Cluster
    api: str
    name: str
    known: set[int]
    programs: list[subprocess.Popen[Any]] = field(default_factory=list)

    @property
    def stages(self) -> tuple[str, ...]:
        return ("data_prep_pretrain", "pretrain")

    def overrides(self, *, steps: int = 400) -> tuple[str, ...]:
        """A pretraining that no other test does."""
        seed = zlib.crc32(self.name.encode()) % 100_000
        settings = {"train.train_iters": steps, "train.seed": seed, "checkpoint.save_interval": 4}
        return tuple(f"pretrain.{key}={value}" for key, value in settings.items())

    def arguments(self, *, steps: int = 400) -> tuple[str, ...]:
        return ("--profile", "lab", "--stages", ",".join(self.stages), *self.overrides(steps=steps))

    def start(self, *args: str) -> subprocess.Popen[str]:
        process = super().start(*args)
        self.programs.append(process)
        return process

    def parameters(self, *, steps: int = 400) -> dict[str, Any]:
        """The same as a deployment gets it."""
        form = form_parameters(config="tiny", stages=self.stages, overrides=self.overrides(steps=steps))
        by_stage = {name: value.model_dump() for name, value in form.items() if name != "config"}
        return {"config": "tiny", "profile": "lab", "project_dir": str(self.folder), **by_stage}

    def start_program(self, *command: str, **env: str) -> subprocess.Popen[str]:
        """Start another program of the user's in the directory; its output goes to a file named for the test."""
        with (self.folder / f"{self.name.replace('/', '-')}.out").open("w") as out:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env={**os.environ, **self.env, **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self.programs.append(process)
        return process

    def kill_processes(self) -> None:
        """End what the test started, with all that is in the same session."""
        for process in self.programs:
            for pid in session_members(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(timeout=10)
            if process.stdout is not None:
                process.stdout.close()

    def jobs(self) -> list[Job]:
        """This test's pretraining jobs, ended ones too."""
        rows = (line.split() for line in self.cluster.jobs(name="-pretrain-"))
        found = [Job(job_id=int(job_id), state=state, name=name) for job_id, state, name in rows]
        return sorted((job for job in found if job.job_id not in self.known), key=lambda job: job.job_id)

    def states(self) -> list[str]:
        return [job.state for job in self.jobs()]

    def live(self) -> list[Job]:
        """Those of the test's jobs that have not ended."""
        return [job for job in self.jobs() if job.state in LIVE]

    def wait_for_job(self, state: str = "RUNNING", *, timeout_s: float = 180) -> Job:
        """The test's one job, when it is in that state."""
        wait_until(lambda: self.states() == [state], timeout_s=timeout_s)
        return self.jobs()[0]

    def seconds_to_gone(self, *, timeout_s: float = 60) -> float:
        """How long it takes from now until no job of the test is in the queue."""
        begun = time.monotonic()
        wait_until(lambda: not self.live(), timeout_s=timeout_s)
        return time.monotonic() - begun

    def ask(self, route: str, content: dict[str, Any] | None = None) -> Any:
        """The Prefect server's answer."""
        return ask(self.api, route, content)

    def flow_run(self) -> str:
        """The id of the newest flow run."""
        return str(self.ask("flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})[0]["id"])

    def schedule(self, deployment: str, *, steps: int = 400) -> str:
        """The id of a new flow run of that deployment, once it exists."""
        wait_until(lambda: self.deployment_id(deployment) is not None, timeout_s=60)
        route = f"deployments/{self.deployment_id(deployment)}/create_flow_run"
        return str(self.ask(route, {"parameters": self.parameters(steps=steps)})["id"])

    def deployment_id(self, name: str) -> str | None:
        found = self.ask("deployments/filter", {"deployments": {"name": {"any_": [name]}}})
        return str(found[0]["id"]) if found else None

    def state_of(self, flow_run: str) -> str:
        return str(self.ask(f"flow_runs/{flow_run}")["state"]["name"])

    def task_states(self, flow_run: str) -> dict[str, str]:
        """The name of each task of that run → that of its state."""
        found = self.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run]}}})
        return {str(task["name"]): str(task["state"]["name"]) for task in found}

    def set_state(self, flow_run: str, state: str) -> None:
        """As the UI's and the CLI's cancel do it."""
        self.ask(f"flow_runs/{flow_run}/set_state", {"state": {"type": state.upper(), "name": state}})

    def force_state(self, flow_run: str, state: str) -> None:
        """Whatever rules the server has."""
        self.ask(f"flow_runs/{flow_run}/set_state", {"state": {"type": state.upper(), "name": state}, "force": True})

    def retry(self, flow_run: str) -> None:
        """As `prefect flow-run retry` does it."""
        state = {"type": "SCHEDULED", "name": "AwaitingRetry"}
        self.ask(f"flow_runs/{flow_run}/set_state", {"state": state, "force": True})

    def flow_processes(self, flow_run: str) -> list[int]:
        """The processes that a worker or runner started for the flow run."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                environ = (path / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if f"PREFECT__FLOW_RUN_ID={flow_run}" in environ and "SLURM_JOB_ID" not in environ:
                found.append(int(path.name))
        return found

    def newest_run(self) -> str:
        """The id of the pipeline run that was asked for last."""
        paths = (self.folder / ".nemotron" / "runs").glob("*.json")
        return max(paths, key=lambda path: path.stat().st_mtime).stem

    def is_driven(self, run_id: str) -> bool:
        """Whether some process drives the pipeline run."""
        lock = self.folder / ".nemotron" / "runs" / f"{run_id}.lock"
        return subprocess.run(["flock", "--nonblock", str(lock), "true"], check=False).returncode != 0


@dataclass(kw_only=True)
class Terminal:
    """The flow on a pseudo terminal, as a person sees it."""

    process: subprocess.Popen[bytes]
    master: int
    shown: str = ""

    @classmethod
    def start(cls, lab: LabProject, args: Sequence[str]) -> "Terminal":
        master, slave = pty.openpty()
        process = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, str(FLOW), *args],
            cwd=lab.folder,
            env={**os.environ, **lab.env, "TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        os.set_blocking(master, False)
        lab.programs.append(process)
        return cls(process=process, master=master)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def see(self, text: str, *, timeout_s: float = 30) -> None:
        """Return when the text is on the screen."""
        wait_until(lambda: text in self.read(), timeout_s=timeout_s)

    def read(self) -> str:
        try:
            while chunk := os.read(self.master, 65536):
                self.shown += chunk.decode(errors="replace")
        except OSError:  # nothing more now, or its end
            pass
        return self.shown

    def end(self, *, timeout_s: float = 60) -> int:
        """The exit code."""
        wait_until(lambda: self.read() is not None and self.process.poll() is not None, timeout_s=timeout_s)
        self.read()
        os.close(self.master)
        return int(self.process.returncode)


def session_members(session: int) -> list[int]:
    """The processes of that session."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(path.name)) == session:
                found.append(int(path.name))
        except ProcessLookupError:
            continue
    return found
