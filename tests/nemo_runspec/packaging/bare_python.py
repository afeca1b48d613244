"""An interpreter with what recipes need installed and nothing of this project."""

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement

from nemo_runspec.packaging import Package

NEEDED = ("omegaconf", "pydantic", "pydantic-settings", "rich", "pyyaml", "tokenizers", "pyarrow")


@dataclass(frozen=True)
class BarePython:
    """Runs things far from any checkout."""

    path: Path
    cwd: Path

    def run(self, *words: str | Path, pythonpath: list[Path] | None = None, **env: str) -> subprocess.CompletedProcess:
        paths = os.pathsep.join(map(str, pythonpath or []))
        env = {"PATH": os.defpath, "HOME": str(self.cwd), "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **env}
        command = [str(self.path), *map(str, words)]
        return subprocess.run(command, cwd=self.cwd, env=env, capture_output=True, text=True, timeout=120, check=False)

    def run_package(
        self, folder: Path, package: Package, *words: str | Path, **env: str
    ) -> subprocess.CompletedProcess:
        pythonpath = [folder / place for place in package.pythonpath]
        return self.run(folder / package.script, *words, pythonpath=pythonpath, **env)


def requirements(names: tuple[str, ...]) -> Iterator[importlib.metadata.Distribution]:
    """The installed distributions of those names and all that they require here."""
    waiting, seen = list(names), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        yield found
        wanted = [Requirement(text) for text in found.requires or []]
        waiting += [each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]


def create_bare_venv(folder: Path) -> Path:
    """The interpreter of a virtual environment with links to the third-party packages that recipes need."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    target = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder)}))
    for distribution in requirements(NEEDED):
        tops = {PurePosixPath(file).parts[0] for file in distribution.files or []} - {"..", "__pycache__"}
        for top in tops:
            link = target / top
            if not link.is_symlink():
                link.symlink_to(Path(str(distribution.locate_file(top))))
    return folder / "bin" / "python"
