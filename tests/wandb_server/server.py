"""Starts the double and looks into it."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEY = "5" * 40
ENTITY = "double"


@dataclass(frozen=True, kw_only=True)
class WandbServerProcess:
    """A running double; `key` is the one it accepts, `entity` the one that key belongs to."""

    url: str
    key: str
    entity: str = ENTITY

    @property
    def env(self) -> dict[str, str]:
        """What makes the client speak to it."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": self.key}

    def state(self) -> dict[str, Any]:
        """Runs and artifact collections by `entity/project/name`, how often each operation was asked, what failed.

        A run: name, group, job_type, tags, notes, state, config, history (rows in order), summary, and the versions
        it used and logged. A collection: type, aliases, and its versions with digest, metadata and manifest entries.
        """
        state: dict[str, Any] = self._ask("GET", "state")
        return state

    def project_state(self, project: str) -> dict[str, Any]:
        """Runs and artifact collections of a project of the entity, by their names alone."""
        state, place = self.state(), f"{self.entity}/{project}/"
        return {
            kind: {key.removeprefix(place): found for key, found in state[kind].items() if key.startswith(place)}
            for kind in ("runs", "collections")
        }

    def fault(self, **fault: Any) -> None:
        """Order a fault, with the fields of `faults.Fault`: `fault(operation="CommitArtifact", status=500)`."""
        self._ask("POST", "fault", fault)

    def clear_faults(self) -> None:
        """From now on all goes well."""
        self._ask("DELETE", "fault")

    def _ask(self, method: str, what: str, body: dict[str, Any] | None = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_double/{what}", content, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


@contextmanager
def wandb_server(data_dir: Path, *, key: str = KEY) -> Iterator[WandbServerProcess]:
    """A server with nothing in it, on a free port, for the block."""
    command = [sys.executable, "-m", "wandb_server", "--directory", data_dir, "--key", key, "--entity", ENTITY]
    above = str(Path(__file__).resolve().parent.parent)
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": above}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, f"the double of the W&B server ended with exit code {process.wait()}"
        try:
            yield WandbServerProcess(url=url, key=key)
        finally:
            process.kill()
