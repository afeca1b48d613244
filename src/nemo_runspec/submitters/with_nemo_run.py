"""The parent of render_nemo_run.py: runs it in an environment of its own, once for all scripts not rendered before."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import nemo_runspec
from nemo_runspec.errors import RequirementError
from nemo_runspec.slurm.spec import JobSpec

RENDERER = Path(__file__).with_name("render_nemo_run.py")
NEMO_RUN_VERSION = "0.11.1"
TIMEOUT_S = 300
"""The first call builds an environment of about 120 packages, 0.5 GB; 7 s with a fast mirror."""

# What decides the text, besides the spec and the versions that the renderer pins.
_SOURCES = ("submitters/render_nemo_run.py", "submitters/script_text.py", "slurm/spec.py", "execution.py")
# What uv and Python need; nothing that belongs to a job, and no secret of one.
_PASSED_ON = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "NO_PROXY", "no_proxy", "NETRC")
_PASSED_ON_PREFIXES = ("UV_", "XDG_", "SSL_CERT_", "HTTP_", "HTTPS_", "ALL_", "http_", "https_", "all_")
_ERROR_LINES = 6


def render_with_nemo_run(specs: Sequence[JobSpec], *, cache_dir: Path) -> list[str]:
    """The batch script of each spec; those in `cache_dir` cost nothing, the others are rendered in one call.

    Raises:
        RequirementError: uv is missing, or the environment with NeMo-Run cannot be built.
    """
    paths = [cache_dir / f"{_cache_key(spec)}.sh" for spec in specs]
    missing = {path: spec for path, spec in zip(paths, specs, strict=True) if not _is_script(path)}
    if missing:
        texts = _run_renderer(list(missing.values()))
        for path, text in zip(missing, texts, strict=True):
            _save(path, text)
    return [path.read_bytes().decode() for path in paths]


def build_environment() -> None:
    """Build the environment with NeMo-Run now, so that a machine without internet can render later.

    Raises:
        RequirementError: it cannot be built.
    """
    _run_renderer([])


def check_environment() -> None:
    """Raise RequirementError unless NeMo-Run renders here without asking any package index."""
    _run_renderer([], offline=True)


def _cache_key(spec: JobSpec) -> str:
    digest = hashlib.sha256(json.dumps(["nemo-run", NEMO_RUN_VERSION, asdict(spec)], sort_keys=True).encode())
    for name in _SOURCES:
        digest.update((Path(nemo_runspec.__file__).parent / name).read_bytes())
    return digest.hexdigest()


def _is_script(path: Path) -> bool:
    """False also for what a crash of the machine left empty."""
    try:
        return path.read_bytes().startswith(b"#!/bin/bash\n")
    except FileNotFoundError:
        return False


def _save(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".partial-", delete=False) as file:
        file.write(text.encode())
    os.replace(file.name, path)


def _run_renderer(specs: Sequence[JobSpec], *, offline: bool = False) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="nemotron-render-") as home:
        # Our package alone goes into the child's path, nothing else of this environment.
        (Path(home) / "nemo_runspec").symlink_to(Path(nemo_runspec.__file__).parent, target_is_directory=True)
        process = subprocess.Popen(
            _command(),
            cwd=home,
            env=_child_env(home) | ({"UV_OFFLINE": "1"} if offline else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        with process:
            try:
                output, errors = process.communicate(json.dumps([asdict(spec) for spec in specs]).encode(), TIMEOUT_S)
            except subprocess.TimeoutExpired as error:
                _kill(process)
                raise _failure(f"no answer within {TIMEOUT_S} s", b"") from error
            except BaseException:
                _kill(process)
                raise
    if process.returncode != 0:
        raise _failure(f"exit code {process.returncode}", errors)
    texts = json.loads(output)
    assert isinstance(texts, list)
    return texts


def _command() -> list[str]:
    if _is_installed_here():
        return [sys.executable, str(RENDERER)]
    interpreter = ["--python", sys.executable] if sys.version_info < (3, 13) else []
    return [_find_uv(), "run", "--no-progress", *interpreter, "--script", str(RENDERER)]


def _is_installed_here() -> bool:
    if importlib.util.find_spec("nemo_run") is None:
        return False
    return importlib.metadata.version("nemo-run") == NEMO_RUN_VERSION


def _find_uv() -> str:
    try:
        import uv

        return uv.find_uv_bin()
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise RequirementError(
            "submitter = \"nemo-run\" needs uv, which is not installed; pip install 'nemotron-flows[slurm]', "
            'or set submitter = "submitit"'
        )
    return found


def _child_env(home: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
    return {**kept, "PYTHONPATH": home, "NEMORUN_HOME": home, "PYTHONDONTWRITEBYTECODE": "1"}


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End uv and what it started."""
    os.killpg(process.pid, signal.SIGKILL)


def _failure(what: str, errors: bytes) -> RequirementError:
    lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
    said = " | ".join(lines[-_ERROR_LINES:]) or "nothing was said"
    return RequirementError(
        f"NeMo-Run {NEMO_RUN_VERSION} did not render the job scripts: {what}: {said}. It has its own environment, "
        f"built by uv from PyPI: build it where there is internet with `nemotron doctor --build-nemo-run` and the "
        'same UV_CACHE_DIR, or set submitter = "submitit"'
    )
