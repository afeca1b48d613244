"""Which stage, and how to run it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nemo_runspec.profiles import Profile
from nemo_runspec.settings import load_settings
from nemo_runspec.store_location import absolute_location, is_url
from nemotron.blocks.store_settings import project_store


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
    def store_root(self) -> str:
        """The artifact store, an absolute path or a URL: `$NEMOTRON_STORE`, else the project's own."""
        named = load_settings().store
        return absolute_location(named) if named else project_store(self.project_dir)

    @property
    def store_path(self) -> Path | None:
        """The store's directory; None if it is at a URL."""
        return None if is_url(self.store_root) else Path(self.store_root)

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

    def job_folders(self, profile: Profile) -> dict[str, Path]:
        """Directories that jobs write, absolute, by the setting that says where they are."""
        store = {"NEMOTRON_STORE": self.store_path} if self.store_path else {}
        return {"remote_job_dir": self.work_root(profile).absolute(), **store}
