"""Where a job's code comes from: git commit and package versions. Imports none of the packages it names."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

PACKAGES = (
    "nemotron-flows",
    "megatron-core",
    "numpy",
    "omegaconf",
    "prefect",
    "pyarrow",
    "ray",
    "tokenizers",
    "torch",
)
_SECRET = re.compile(r"(?i)(^|[_.-])(token|secret|password|passwd|api_?key|secret_access_key|credentials?)$")
# Words of a tokenizer.
_NO_SECRET = re.compile(r"(?i)(^|[_.-])(pad|bos|eos|unk|mask|sep|cls|special|image|begin|end)_token$")
_SECRET_WITHIN = re.compile(r"(?i)(token|secret|password|passwd|api_?key|credentials?|env_vars)['\"]?\s*:")
_HIDDEN = "***"


def describe_git(folder: Path) -> dict[str, Any] | None:
    """`{sha, dirty}` of the repository that holds `folder`; None outside of one or without git."""
    command = ["git", "-C", str(folder), "status", "--porcelain=v2", "--branch"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.splitlines()
    shas = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    if done.returncode != 0 or not shas:
        return None
    return {"sha": shas[0], "dirty": any(not line.startswith("#") for line in lines)}


@cache
def describe_packages() -> Mapping[str, str]:
    """Versions of Python and of the packages that matter, where installed."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return MappingProxyType(versions)


def hide_secrets(run: Any) -> Any:
    """Return the config with secrets as `***`: values of secret-like keys and of all env_vars.

    Also in `KEY=value` arguments.
    """
    if isinstance(run, Mapping):
        return {
            key: dict.fromkeys(value, _HIDDEN)
            if key == "env_vars" and isinstance(value, Mapping)
            else _HIDDEN
            if value and is_secret(str(key))
            else hide_secrets(value)
            for key, value in run.items()
        }
    if isinstance(run, list):
        return [hide_secrets(value) for value in run]
    if isinstance(run, str) and re.match(r"\+*[\w.\[\]-]+=", run):
        key, _, value = run.partition("=")
        hidden = is_secret(key) or "env_vars" in key.split(".") or _SECRET_WITHIN.search(value)
        return f"{key}={_HIDDEN}" if hidden else run
    return run


def is_secret(key: str) -> bool:
    """Whether the key is named like a secret."""
    return bool(_SECRET.search(key)) and not _NO_SECRET.search(key)
