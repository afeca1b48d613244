"""The packagers by the name that a runspec or a profile gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from nemo_runspec.errors import ConfigError, did_you_mean
from nemo_runspec.packaging.code_packager import CodePackager
from nemo_runspec.packaging.packager import Packager
from nemo_runspec.packaging.pattern_packager import PatternPackager
from nemo_runspec.packaging.self_contained import SelfContainedPackager

PACKAGERS: Mapping[str, type[Packager]] = MappingProxyType(
    {"pattern": PatternPackager, "code": CodePackager, "self_contained": SelfContainedPackager}
)


def build_packager(
    kind: str, script_path: str | Path, *, train_path: str | Path | None = None, packages: Sequence[str] = ()
) -> Packager:
    """The packager of that name, `-` or `_` in it; recipes in `packages` keep their import path.

    Raises:
        ConfigError: there is none.
    """
    match kind.replace("-", "_"):
        case "pattern":
            return PatternPackager(script_path, train_path, packages=tuple(packages))
        case "code":
            return CodePackager(script_path, train_path)
        case "self_contained":
            return SelfContainedPackager(script_path, train_path, packages=tuple(packages))
    have = ", ".join(PACKAGERS)
    raise ConfigError(f"packager {kind!r} not known; have: {have}.{did_you_mean(kind, PACKAGERS)}")
