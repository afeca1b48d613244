"""What every packager has in common: `build()` for this project, `package()` for NeMo-Run."""

from __future__ import annotations

import dataclasses
import logging
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from nemo_runspec.errors import ConfigError, ConfigNotFound
from nemo_runspec.packaging.package import Package, pack_tar

REMOTE_CONFIG = "config.yaml"
LARGE_BYTES = 500 * 10**6

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Packager(ABC):
    """Decides what travels with a script. `train_path`, if given, travels as `config.yaml`, at the top."""

    script_path: str | Path
    train_path: str | Path | None = None

    # What NeMo-Run 0.11.1 reads of a packager besides `package`; nemo_run/core/packaging/base.py.
    debug: ClassVar[bool] = False
    symlink_from_remote_dir: ClassVar[str | None] = None

    @property
    def script(self) -> Path:
        """The script, absolute; symbolic links are kept, since they may be part of its import path."""
        return Path(os.path.abspath(self.script_path))

    @abstractmethod
    def script_place(self) -> PurePosixPath:
        """Where the script will lie in the package."""

    def build(self) -> Package:
        """Return what travels; reads files, writes none.

        Raises:
            ConfigNotFound: no such script or config file.
            ConfigError: this packager cannot package this script.
        """
        if not self.script.is_file():
            raise ConfigNotFound(f"{self.script}: no such script")
        package = self._collect()
        if self.train_path is not None:
            package = _add_config(package, Path(self.train_path))
        if (size := package.num_bytes()) > LARGE_BYTES:
            logger.warning("%s: %d MB of code and data travel with each job", self.script, size // 10**6)
        return package

    def package(self, path: Path, job_dir: str, name: str) -> str:  # noqa: ARG002  NeMo-Run's signature
        """Write `<job_dir>/<name>.tar.gz` unless it is there, and return its path; what NeMo-Run calls."""
        target = Path(job_dir, f"{name}.tar.gz")
        if not target.exists():
            pack_tar(self.build(), target)
        return str(target)

    def setup(self) -> None:  # noqa: B027  not abstract: there is nothing to do
        """Nothing; NeMo-Run's hook."""

    @abstractmethod
    def _collect(self) -> Package:
        """The package without the config; the script exists."""


def _add_config(package: Package, config: Path) -> Package:
    place = PurePosixPath(REMOTE_CONFIG)
    if not config.is_file():
        raise ConfigNotFound(f"{config}: no such config file")
    if place in package.files:
        raise ConfigError(f"{config} would travel as {place}, but so does {package.files[place]!s}; rename that file")
    return dataclasses.replace(package, files={**package.files, place: config})
