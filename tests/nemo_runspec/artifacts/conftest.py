import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_publisher import Publisher

from nemo_runspec.artifacts import ArtifactStore


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def publish(store: ArtifactStore, tmp_path: Path) -> Publisher:
    return Publisher(store, tmp_path / "sources")


@pytest.fixture
def mount_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system of its own with the options, like `size=1m`; again with `remount,ro` to change it."""
    path = tmp_path / "disk"
    path.mkdir()

    def mount(options: str) -> Path:
        program = shutil.which("mount")
        if program is None:
            pytest.skip("no small disk to test on: no mount command")
        done = subprocess.run([program, "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip("no small disk to test on: " + done.stderr.partition("\n")[0])
        return path

    yield mount
    if path.is_mount():
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def small_disk(mount_disk: Callable[[str], Path]) -> Path:
    return mount_disk("size=1m")
