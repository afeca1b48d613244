"""What code travels with a job: a recipe (pattern), the whole work tree (code) or one file (self_contained)."""

from nemo_runspec.packaging.code_packager import CodePackager
from nemo_runspec.packaging.package import Package, Symlink, pack_tar, write_package
from nemo_runspec.packaging.packager import REMOTE_CONFIG, Packager
from nemo_runspec.packaging.pattern_packager import PatternPackager
from nemo_runspec.packaging.roots import recipe_root
from nemo_runspec.packaging.selection import PACKAGERS, build_packager
from nemo_runspec.packaging.self_contained import REMOTE_SCRIPT, SelfContainedPackager

__all__ = [
    "PACKAGERS",
    "REMOTE_CONFIG",
    "REMOTE_SCRIPT",
    "CodePackager",
    "Package",
    "Packager",
    "PatternPackager",
    "SelfContainedPackager",
    "Symlink",
    "build_packager",
    "pack_tar",
    "recipe_root",
    "write_package",
]
