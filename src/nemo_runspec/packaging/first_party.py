"""Finds the modules that are the project's own, by name, in a few directories; imports nothing."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nemo_runspec.errors import ConfigError
from nemo_runspec.packaging.roots import outermost_package, package_dirs, project_root, recipe_root, toolkit_dir


@dataclass(frozen=True)
class Root:
    """A directory to import from; `only`: the one top-level name that is taken from it."""

    path: Path
    only: str | None = None


@dataclass(frozen=True, kw_only=True)
class Module:
    """Where a module is. `path`: None for a namespace package; `folders`: where its submodules are."""

    name: str
    path: Path | None
    folders: tuple[Path, ...] = ()

    @property
    def package(self) -> str:
        """What relative imports in it are relative to."""
        return self.name if self.folders else self.name.rpartition(".")[0]


def roots_of(script: Path, packages: Sequence[str] = ()) -> list[Root]:
    """Where the script's own modules may be: beside it, its recipe, the project and its `src`, and the toolkit."""
    top = outermost_package(recipe_root(script))
    roots = [Root(script.parent), Root(recipe_root(script)), Root(top.parent, only=top.name)]
    if (project := project_root(script)) is not None:
        roots += [Root(project), Root(project / "src")]
    for top_name in dict.fromkeys(name.partition(".")[0] for name in packages):
        roots += [Root(folder.parent, only=top_name) for folder in package_dirs(top_name)]
    return [*roots, Root(toolkit_dir().parent, only=toolkit_dir().name)]


@dataclass
class FirstParty:
    """The modules below some roots, the first of which is the script's directory."""

    roots: Sequence[Root]
    installed: Sequence[Path] = field(default_factory=lambda: installed_dirs())
    _found: dict[str, Module | None] = field(default_factory=dict)

    def find(self, name: str) -> Module | None:
        """The module of that dotted name; None if it is not one of ours.

        Raises:
            ConfigError: it is two different files, or hides a module of the standard library.
        """
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def _find(self, name: str) -> Module | None:
        parent, _, leaf = name.rpartition(".")
        if not parent and name in sys.stdlib_module_names:
            self._refuse_hiding(name)
            return None
        modules = list(self._candidates(name, parent, leaf))
        others = [] if parent else [_look(folder, name, leaf) for folder in self.installed]
        if any(other and other.path for other in others) and not any(module.path for module in modules):
            return None  # a mere directory of ours loses against an installed package, as in Python
        regular = {m.path.resolve(): m for m in (*modules, *others) if m is not None and m.path is not None}
        if len(regular) > 1:
            first, second = list(regular.values())[:2]
            raise ConfigError(f"module {name!r} is both {first.path} and {second.path}; rename or remove one")
        if modules and not regular:
            return Module(name=name, path=None, folders=tuple(f for module in modules for f in module.folders))
        return next(iter(regular.values()), None)

    def _candidates(self, name: str, parent: str, leaf: str) -> Iterator[Module]:
        folders: Sequence[Path] = [root.path for root in self.roots if root.only in (None, name)]
        if parent:
            above = self.find(parent)
            folders = above.folders if above else ()
        for folder in folders:
            if (module := _look(folder, name, leaf)) is not None:
                yield module

    def _refuse_hiding(self, name: str) -> None:
        beside = _look(self.roots[0].path, name, name)
        if beside is not None and beside.path is not None:
            raise ConfigError(f"{beside.path}: has the name of a module of the standard library; rename it")


def installed_dirs() -> list[Path]:
    """Where this interpreter's packages are installed."""
    paths = sysconfig.get_paths()
    return list(dict.fromkeys(Path(paths[key]) for key in ("purelib", "platlib")))


def is_native(path: Path) -> bool:
    """Whether the module is machine code."""
    return path.suffix != ".py"


def _look(folder: Path, name: str, leaf: str) -> Module | None:
    """The module in that directory, in the order of Python's own FileFinder."""
    inner = folder / leaf
    if (path := _file(inner, "__init__")) is not None:
        return Module(name=name, path=path, folders=(inner,))
    if (path := _file(folder, leaf)) is not None:
        return Module(name=name, path=path)
    return Module(name=name, path=None, folders=(inner,)) if inner.is_dir() else None


def _file(folder: Path, stem: str) -> Path | None:
    native = [*folder.glob(f"{stem}.*.so"), *folder.glob(f"{stem}.so"), *folder.glob(f"{stem}.*pyd")]
    python = folder / f"{stem}.py"
    return min(native) if native else python if python.is_file() else None
