"""One file, `main.py`: a script and all modules of the project's own that it imports, as a Python zip application.

A zip rather than one long text: modules keep their names, cyclic and `*` imports are Python's own, tracebacks show
real file names and lines, and other processes import from it with PYTHONPATH. `head main.py` tells what it is.
"""

from __future__ import annotations

import hashlib
import io
import textwrap
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import PurePosixPath

from nemo_runspec.errors import ConfigError
from nemo_runspec.packaging.closure import Closure, import_closure
from nemo_runspec.packaging.first_party import FirstParty, Module, roots_of
from nemo_runspec.packaging.package import Package
from nemo_runspec.packaging.packager import Packager
from nemo_runspec.packaging.roots import recipe_place, recipe_root

REMOTE_SCRIPT = "main.py"
# What starts a job's script on its nodes, so that `python -m nemo_runspec.launch` works from the file too.
LAUNCHERS = (
    "nemo_runspec.launch.__main__",
    "nemo_runspec.launch.elastic",
    "nemo_runspec.launch.ray_ready",
    "nemo_runspec.jobs.child",
)
# What runs this module has the other as a program of its own, which no import statement tells.
STARTER, STARTED = "nemo_runspec.mirror.follower", "nemo_runspec.mirror.follow"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold
_MAIN_END = """
_script = load_script(__loader__, {place!r})
# As in a script that is a plain file; multiprocessing then starts its children from this file.
__file__, __doc__, __spec__ = __loader__.archive, None, None
del Archive, CodeType, Protocol, TracebackType, annotations, load_script, sys
exec(globals().pop("_script"))
"""


@dataclass(frozen=True)
class SelfContainedPackager(Packager):
    """The script with its import closure in `main.py`; what a zip cannot do is refused, never left out."""

    packages: tuple[str, ...] = field(default=(), kw_only=True)

    def script_place(self) -> PurePosixPath:
        """`main.py`."""
        return PurePosixPath(REMOTE_SCRIPT)

    def _collect(self) -> Package:
        own = FirstParty(roots_of(self.script, self.packages))
        closure = import_closure(self.script, own, also=LAUNCHERS)
        if STARTER in closure.modules:
            closure = import_closure(self.script, own, also=(*LAUNCHERS, STARTED))
        root = recipe_root(self.script)
        place = recipe_place(root, self.packages) / self.script.relative_to(root)
        source = self.script.read_bytes()
        members = {**_members(closure), PurePosixPath("__main__.py"): render_main(place)}
        if members.setdefault(place, source) != source:
            raise ConfigError(f"{self.script}: another file is imported as {place}; rename one")
        main = self.script_place()
        content = render_header(place, source, closure).encode() + build_zip(members)
        return Package(files={main: content}, script=main, pythonpath=(main,))


def render_main(place: PurePosixPath) -> bytes:
    """The `__main__.py` that runs the script at that place of the archive."""
    start = resources.files("nemo_runspec.packaging").joinpath("zip_main.py").read_text(encoding="utf-8")
    return (start + _MAIN_END.format(place=str(place))).encode()


def render_header(place: PurePosixPath, source: bytes, closure: Closure) -> str:
    """The text at the beginning of the file, which ends where the zip begins."""
    needs = ", ".join(sorted(closure.third_party)) or "nothing"
    own = sum(module.path is not None for module in closure.modules.values())
    lines = [
        f"A Python program in one file: {place} with {own} modules of its project and nemo_runspec.",
        f"The script's digest is sha256:{hashlib.sha256(source).hexdigest()}.",
        f"It imports of other packages, which must be installed or are optional to it: {needs}.",
        "",
        f"Run it: python {REMOTE_SCRIPT} --config config.yaml. Look inside: python -m zipfile -l {REMOTE_SCRIPT}.",
        "Written by nemo_runspec.packaging; below this line a zip file begins.",
    ]
    wrapped = [part for line in lines for part in textwrap.wrap(line, width=110, break_long_words=False) or [""]]
    return "\n".join(["#!/usr/bin/env python3", *(f"# {line}".rstrip() for line in wrapped), ""])


def build_zip(members: Mapping[PurePosixPath, bytes]) -> bytes:
    """A zip file of these, not compressed; equal members give equal bytes."""
    # zipimport takes a directory without __init__.py for a namespace package only if it has an entry of its own.
    folders = {f"{folder}/": b"" for place in members for folder in place.parents if folder.name}
    entries = {**folders, **{str(place): content for place, content in members.items()}}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, wherever this runs
            entry.external_attr = (0o40755 << 16 | 0x10) if name.endswith("/") else 0o100644 << 16
            archive.writestr(entry, entries[name])
    return buffer.getvalue()


def _members(closure: Closure) -> dict[PurePosixPath, bytes]:
    return {_place(module): module.path.read_bytes() for module in closure.modules.values() if module.path is not None}


def _place(module: Module) -> PurePosixPath:
    parts = PurePosixPath(*module.name.split("."))
    return parts / "__init__.py" if module.folders else parts.with_name(f"{parts.name}.py")
