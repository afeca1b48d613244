"""A script's import closure: all modules of the project's own that it may come to import, and who else is needed."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nemo_runspec.errors import ConfigError
from nemo_runspec.packaging.first_party import FirstParty, Module, is_native
from nemo_runspec.packaging.import_scan import STAR, Import, Scan, scan_module
from nemo_runspec.packaging.roots import toolkit_dir

INSTEAD = "use packager 'pattern' or 'code'"

logger = logging.getLogger(__name__)


@dataclass
class Closure:
    """`modules` by dotted name, packages around them included; `third_party`: top-level names to be installed."""

    modules: dict[str, Module] = field(default_factory=dict)
    third_party: set[str] = field(default_factory=set)


def import_closure(script: Path, own: FirstParty, *, also: Iterable[str] = ()) -> Closure:
    """What the script imports, and the modules in `also` with what they import.

    Raises:
        ConfigError: a module cannot be imported from a zip file, or is two files, or is no Python.
    """
    walk = _Walk(own)
    walk.scan(Module(name="", path=script))
    for name in also:
        walk.follow(Import(name=name, line=0), importer=script)
    while walk.waiting:
        walk.scan(walk.waiting.pop())
    return walk.closure


@dataclass
class _Walk:
    own: FirstParty
    closure: Closure = field(default_factory=Closure)
    waiting: list[Module] = field(default_factory=list)

    def scan(self, module: Module) -> None:
        """Check one module and follow its imports."""
        if module.path is None:
            return
        found = scan_module(module.path.read_bytes(), package=module.package, origin=module.path)
        self.check(module.path, found)
        for each in found.imports:
            self.follow(each, importer=module.path)

    def check(self, path: Path, found: Scan) -> None:
        """Refuse what does not work from a zip file, and tell what cannot be seen."""
        # The toolkit reads beside itself only to submit or to package a job, which no job does.
        if not path.is_relative_to(toolkit_dir()):
            for use in found.file_uses:
                if use.of is None or self.own.find(use.of.partition(".")[0]) is not None:
                    raise ConfigError(
                        f"{path}:{use.line}: reads beside {use.of or 'itself'}, where one file has nothing; {INSTEAD}"
                    )
        for line in found.computed_lines:
            logger.warning("%s:%d: imports by a computed name; if that is yours, import it outright too", path, line)

    def follow(self, wanted: Import, *, importer: Path) -> None:
        """Take the modules in that an import statement names."""
        top = wanted.name.partition(".")[0]
        found = [module for name in self.names(wanted) if (module := self.own.find(name)) is not None]
        if not any(module.path for module in found):
            if top not in sys.stdlib_module_names:
                self.closure.third_party.add(top)
            return
        if self.own.find(wanted.name) is None:
            logger.warning("%s:%d: there is no module %s; it does not travel", importer, wanted.line, wanted.name)
        for module in found:
            if module.path and is_native(module.path):
                raise ConfigError(f"{importer}:{wanted.line}: {module.path} is machine code; {INSTEAD}")
            if module.name not in self.closure.modules:
                self.closure.modules[module.name] = module
                self.waiting.append(module)

    def names(self, wanted: Import) -> Sequence[str]:
        """The module, the packages around it, and those members that may be modules."""
        parts = wanted.name.split(".")
        around = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
        members = self.exports(wanted.name) if STAR in wanted.members else wanted.members
        return [*around, *(f"{wanted.name}.{member}" for member in members)]

    def exports(self, name: str) -> Sequence[str]:
        module = self.own.find(name)
        if module is None or module.path is None or is_native(module.path):
            return ()
        return scan_module(module.path.read_bytes(), package=module.package, origin=module.path).exports
