"""What `nemotron doctor` says about the project: its directory, its store, its profiles, its Prefect."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from nemo_runspec.checks import Check, failed, passed, warned
from nemo_runspec.project import MARKS, find_project
from nemotron.cli.store_root import find_directory

MIN_FREE_BYTES = 10e9
_MORE = "; nemotron artifacts doctor tries it"
_NETWORK = ("nfs", "lustre", "gpfs", "beegfs", "cifs", "smb", "ceph", "fuse")


def check_project() -> list[Check]:
    """Which directory it is, and why."""
    project = find_project()
    marks = [mark for mark in MARKS if (project / mark).exists()]
    why = f"it holds {', '.join(marks)}" if marks else f"nothing above holds {', '.join(MARKS)}: the current directory"
    return [passed("project", f"{project}: {why}")]


def check_home() -> list[Check]:
    """Whether `.nemotron` can be written, has hard links, which the store needs, and space."""
    home = find_project() / ".nemotron"
    folder = home if home.exists() else home.parent
    kind, mount = file_system(folder)
    place = f"{home}, on {kind} ({mount})"
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as scratch:
            (Path(scratch) / "a").write_text("x")
            has_links = _can_link(Path(scratch))
    except OSError as error:
        said = f"{home} cannot be written: {error.strerror}"
        return [failed(".nemotron", said, "run from a directory of your own")]
    checks = [passed(".nemotron", f"writable: {place}{', a network file system' * kind.startswith(_NETWORK)}")]
    if not has_links and find_directory():
        advice = "set NEMOTRON_STORE to a directory on a file system with hard links"
        checks.append(failed("hard links", f"none on {kind}, and the artifact store needs them", advice))
    return [*checks, check_space(folder)]


def check_space(folder: Path) -> Check:
    """The free disk space there."""
    free = shutil.disk_usage(folder).free
    said = f"{free / 1e9:.1f} GB free"
    if free < MIN_FREE_BYTES:
        return warned("disk space", said, "checkpoints are large: make room, or set NEMOTRON_STORE to another disk")
    return passed("disk space", said)


def check_store() -> list[Check]:
    """Whether the artifact store can be read."""
    from nemo_runspec.artifacts import ArtifactStore
    from nemotron.cli.store_root import find_store

    store = ArtifactStore(find_store())
    origin = " (NEMOTRON_STORE)" if "NEMOTRON_STORE" in os.environ else ""
    if not store.exists():
        return [passed("artifact store", f"{store.location}{origin}: none yet, the first run makes it{_MORE}")]
    return [passed("artifact store", f"{store.location}{origin}: {len(store.names())} artifacts{_MORE}")]


def check_profiles() -> list[Check]:
    """Whether env.toml can be read, and each of its profiles."""
    from nemo_runspec.env_file import find_env_file, load_env_file, profile_tables

    path = find_env_file()
    if path is None:
        return [passed("env.toml", "none; without a profile stages run on this machine")]
    names = list(profile_tables(load_env_file(path)))
    summary = passed("env.toml", f"{path}: {len(names)} profiles")
    return [summary, *(check_profile(name, path) for name in names)]


def check_profile(name: str, path: Path) -> Check:
    """Whether that profile holds what it may, and is for an executor that runs here."""
    from nemo_runspec.errors import ConfigError
    from nemo_runspec.profiles import check_supported
    from nemotron.blocks.profile_lookup import load_profile

    try:
        profile = load_profile(name, path)
    except ConfigError as error:
        return failed(f"profile {name}", str(error).removeprefix(f"{path}: profile {name!r}: "))
    try:
        check_supported(profile, name)
    except ConfigError as error:
        return warned(f"profile {name}", str(error).removeprefix(f"profile {name!r}: "))
    advice = f"; nemotron env check {name} tries it" if profile.executor == "slurm" else ""
    return passed(f"profile {name}", f"valid, {profile.executor}{advice}")


def check_prefect() -> list[Check]:
    """Where flow runs are kept, and whether it answers."""
    from nemo_runspec.errors import RequirementError
    from nemotron.blocks.prefect_api import ask_prefect, prefect_api_url

    url = prefect_api_url()
    if url is None:
        return [passed("Prefect", "embedded: no API is configured")]
    begin = time.monotonic()
    try:
        version = ask_prefect("admin/version", url=url)
    except RequirementError as error:
        return [failed("Prefect", str(error), "start that server, or unset PREFECT_API_URL")]
    return [passed("Prefect", f"{url} answered in {time.monotonic() - begin:.2f} s, version {version}")]


def file_system(folder: Path) -> tuple[str, str]:
    """Type and mount point of the file system that the folder is on, as Linux tells; ("unknown", "/") elsewhere."""
    path = folder.resolve()
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown", "/"
    mounts = [(words[1].replace("\\040", " "), words[2]) for words in map(str.split, lines)]
    point, kind = max(
        ((point, kind) for point, kind in mounts if path.is_relative_to(point)), key=lambda mount: len(mount[0])
    )
    return kind, point


def _can_link(scratch: Path) -> bool:
    try:
        (scratch / "b").hardlink_to(scratch / "a")
    except OSError:
        return False
    return True
