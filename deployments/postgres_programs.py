"""Where this machine has PostgreSQL's programs, and the environment that they are run in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from nemo_runspec.errors import RequirementError

_DEBIAN = Path("/usr/lib/postgresql")
_INSTALL = "install PostgreSQL 14 or later (Debian: apt-get install postgresql), or give --database-url"


def find_programs(version: str | None = None) -> Path:
    """Where PostgreSQL's programs are, of that major version or the newest: on PATH, or where Debian has them.

    Raises:
        RequirementError: nowhere.
    """
    on_path = shutil.which("postgres")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(_DEBIAN.glob("*/bin"), key=lambda path: -int(re.sub(r"\D", "", path.parent.name) or 0))
    folders = [folder for folder in folders if (folder / "initdb").exists()]
    if not folders:
        raise RequirementError(f"no PostgreSQL on PATH or in {_DEBIAN}/*/bin; {_INSTALL}")
    if version is None:
        return folders[0]
    found = {_major_version(folder): folder for folder in reversed(folders)}
    if version not in found:
        raise RequirementError(
            f"this database is of PostgreSQL {version}; have: {', '.join(sorted(found))}. Install {version}, or take a "
            "backup with it and restore that into a new directory"
        )
    return found[version]


def program_environment() -> dict[str, str]:
    """This process's environment without what libpq would take from it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C.UTF-8"}


def _major_version(folder: Path) -> str:
    done = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\) (\d+)", done.stdout)
    return found[1] if found else ""
