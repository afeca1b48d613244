"""Whether a site has what a job finds outside of Slurm: shared directories, the container image, the interpreter."""

from __future__ import annotations

import contextlib
import secrets
import time
from pathlib import Path

from nemo_runspec.checks import Check, failed, not_checked, passed
from nemo_runspec.errors import ConfigError, RunspecError
from nemo_runspec.profiles import Profile
from nemo_runspec.slurm.hosts import Host, SshHost
from nemo_runspec.slurm.job_script import check_path

COMMAND_TIMEOUT_S = 60.0
VISIBLE_WITHIN_S = 2.0
"""An NFS client may have to look a new name up on its server."""
_IMPORT = (
    "import sys, omegaconf, pydantic; print('%d.%d.%d' % sys.version_info[:3]); sys.exit(sys.version_info < (3, 11))"
)


def check_folder(host: Host, folder: Path, *, setting: str, where: str) -> Check:
    """Whether it can be written here and is the same directory on the host; what is made for this goes again."""
    advice = f"set {setting} to a directory that you can write and that the cluster shares"
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        check_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        is_shared = _is_shared(host, folder)
    except OSError as error:
        return failed("directory", f"{folder}: {error.strerror}", advice)
    except RunspecError as error:
        return failed("directory", str(error), "" if isinstance(error, ConfigError) else advice)
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()
    if not is_shared:
        return failed("directory", f"{folder} is not visible on {where} under this path", advice)
    told = f", and {where} sees it under the same path" if isinstance(host, SshHost) else ""
    return passed("directory", f"{folder} is writable{told}; that the nodes see it is not checked")


def check_container(host: Host, image: str | None, *, where: str) -> list[Check]:
    """Whether srun takes images (Pyxis) and an image file is there; none for a profile without an image."""
    if image is None:
        return []
    options = host.run(["srun", "--help"], timeout_s=COMMAND_TIMEOUT_S).out
    if "--container-image" in options:
        pyxis = passed("pyxis", f"srun on {where} has --container-image")
    else:
        advice = "choose a profile without container_image, or ask the site whether its nodes have Pyxis"
        pyxis = failed("pyxis", f"srun on {where} has no --container-image", advice)
    return [pyxis, _check_image(host, image, where=where)]


def check_python(host: Host, profile: Profile, python: str, *, where: str) -> Check:
    """Whether the jobs' interpreter starts on the host and has what every job imports."""
    if profile.container_image is not None:
        return not_checked("python", f"{python} of the container, which is not checked")
    done = host.run(["env", python, "-c", _IMPORT], timeout_s=COMMAND_TIMEOUT_S)
    said = (done.err.strip().splitlines() or [f"exit code {done.code}"])[-1]
    if done.code == 0:
        return passed("python", f"{python} is Python {done.out.strip()} and has omegaconf and pydantic, on {where}")
    if done.out.strip():
        said = f"it is Python {done.out.strip()}; expected 3.11 or later"
    if profile.startup_commands or profile.setup_lines:
        return not_checked("python", f"{python} on {where}: {said}; setup_lines or startup_commands may change this")
    advice = "set python to an interpreter on the shared file system in which nemotron-flows is installed"
    return failed("python", f"{python} on {where}: {said}", advice)


def _is_shared(host: Host, folder: Path) -> bool:
    nonce = secrets.token_hex(16)
    file = folder / f".check-{nonce}"
    file.write_text(nonce)
    try:
        deadline = time.monotonic() + VISIBLE_WITHIN_S
        while host.read(file) != nonce.encode():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.5)
        return True
    finally:
        file.unlink(missing_ok=True)


def _check_image(host: Host, image: str, *, where: str) -> Check:
    if not image.startswith(("/", "./", "../")) and not image.endswith(".sqsh"):
        return not_checked("container image", f"{image}: an image of a registry, which is not checked")
    if host.run(["test", "-r", image], timeout_s=COMMAND_TIMEOUT_S).code == 0:
        return passed("container image", f"{image} is there, on {where}")
    return failed("container image", f"{image}: no such file that you can read, on {where}", "correct container_image")
