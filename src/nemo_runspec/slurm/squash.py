"""A container image as one squash file on the cluster's file system, made by enroot on the login node.

Without it each job pulls the image from its registry, on each node.
"""

from __future__ import annotations

import re
from pathlib import Path

from nemo_runspec.errors import ConfigError, RequirementError
from nemo_runspec.slurm.hosts import Host

TIMEOUT_S = 3600.0


def squash_path(image: str, folder: Path) -> Path:
    """Where the squash file of the image is: `<folder>/images/<image, words joined by +>.sqsh`."""
    return folder / "images" / f"{re.sub(r'[^A-Za-z0-9._-]+', '+', image)}.sqsh"


def docker_url(image: str) -> str:
    """The image as enroot names it.

    >>> docker_url("nvcr.io/nvidia/nemo:25.11"), docker_url("ubuntu:24.04")
    ('docker://nvcr.io#nvidia/nemo:25.11', 'docker://ubuntu:24.04')
    """
    registry, slash, rest = image.partition("/")
    # enroot(1) import: registry and image are separated by '#'.
    has_registry = slash and "#" not in image and re.search(r"[.:]", registry)
    return f"docker://{registry}#{rest}" if has_registry else f"docker://{image}"


def squash_image(host: Host, image: str, folder: Path) -> Path:
    """Make the squash file anew and return its path; the old one stays until the new one is whole.

    Raises:
        ConfigError: the image is a squash file already.
        RequirementError: the host has no enroot, or it failed.
    """
    if image.startswith("/") or image.endswith(".sqsh"):
        raise ConfigError(
            f"--force-squash: container_image = {image!r} is a file already; leave the option out, or set "
            "container_image to a registry's image, as nvcr.io/nvidia/nemo:25.11"
        )
    target = squash_path(image, folder)
    script = (
        'new="$1.$$"; mkdir -p -- "${1%/*}" && enroot import -o "$new" "$2" && mv -f -- "$new" "$1" || '
        '{ code=$?; rm -f -- "$new"; exit "$code"; }'
    )
    done = host.run(["sh", "-c", script, "sh", str(target), docker_url(image)], timeout_s=TIMEOUT_S)
    if done.code != 0:
        said = (done.err.strip().splitlines() or [f"exit code {done.code}"])[-1]
        raise RequirementError(
            f"--force-squash: enroot import of {image} into {target} failed: {said}; run it there by hand: "
            f"enroot import -o {target} '{docker_url(image)}', and set container_image to that file"
        )
    return target
