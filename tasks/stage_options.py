"""Which stage, and how to run it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nemo_runspec.profiles import Profile
from nemo_runspec.settings import load_settings


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A named step of a recipe and the script that does it."""

    name: str
    script: Path


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """How to run a stage; the same for all stages of a pipeline but for `overrides`.

    `passthrough` goes to the script as it is; `directory` is what relative paths of the config are relative to.
    """

    config: str = "default"
    overrides: tuple[str, ...] = ()
    passthrough: tuple[str, ...] = ()
    profile: str | None = None
    refresh: bool = False
    plain: bool = False
    detached: bool = False
    show_logs: bool = False
    run_id: str
    project_dir: Path = field(default_factory=Path.cwd)
    directory: Path = field(default_factory=Path.cwd)
    cache_dir: Path | None = None

    @property
    def home(self) -> Path:
        """Where this project's artifacts, work directories, jobs and reports lie."""
        return self.project_dir / ".nemotron"

    @property
    def store_root(self) -> Path:
        """The artifact store: `$NEMOTRON_STORE`, else under the project's `.nemotron`."""
        return load_settings().store or self.home / "artifacts"

    @property
    def cancel_path(self) -> Path:
        """A file that is there when somebody wants the run ended."""
        return self.home / "runs" / f"{self.run_id}.cancel"

    @property
    def render_cache(self) -> Path:
        """Where rendered batch scripts are kept."""
        return self.cache_dir or self.home / "rendered"

    def work_root(self, profile: Profile) -> Path:
        """Where work directories lie: on Slurm under the profile's remote_job_dir, if it has one."""
        if profile.executor == "slurm" and profile.remote_job_dir:
            return Path(profile.remote_job_dir) / "work"
        return self.home / "work"
