"""A real W&B server, named by the environment, for the tests marked `wandb_server`."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True, kw_only=True)
class RealWandbServer:
    """Looks like `WandbServerProcess` but for faults."""

    url: str
    key: str
    entity: str

    @property
    def env(self) -> dict[str, str]:
        """What makes the client speak to it."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": self.key}

    def project_state(self, project: str) -> dict[str, Any]:
        """Runs and artifact collections of a project of the entity, by their names alone."""
        above = str(Path(__file__).resolve().parent.parent)
        done = subprocess.run(
            [sys.executable, "-m", "wandb_server.api_state", f"{self.entity}/{project}"],
            env={**os.environ, **self.env, "PYTHONPATH": above, "WANDB_SILENT": "true"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        state: dict[str, Any] = json.loads(done.stdout)
        return state


def real_server() -> RealWandbServer:
    """That of WANDB_TEST_BASE_URL, WANDB_TEST_API_KEY and WANDB_TEST_ENTITY."""
    names = ("WANDB_TEST_BASE_URL", "WANDB_TEST_API_KEY", "WANDB_TEST_ENTITY")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        pytest.skip(f"set {', '.join(missing)} to test against a real W&B server")
    url, key, entity = (os.environ[name] for name in names)
    return RealWandbServer(url=url.rstrip("/"), key=key, entity=entity)
