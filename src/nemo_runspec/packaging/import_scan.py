"""What a module's source says of its imports, without running it; those inside functions count too."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

from nemo_runspec.errors import ConfigError

STAR = "*"
_OWN_NAMES = ("__package__", "__name__")
_READERS = ("files", "get_data", "path", "open_text", "open_binary", "read_text", "read_binary")


@dataclass(frozen=True, kw_only=True)
class Import:
    """`import name`, or `from name import members`; the name is absolute."""

    name: str
    members: tuple[str, ...] = ()
    line: int


@dataclass(frozen=True, kw_only=True)
class FileUse:
    """Reads files beside the module `of`, which is dotted; None: beside itself."""

    of: str | None
    line: int


@dataclass
class Scan:
    """What was found in one module."""

    imports: list[Import] = field(default_factory=list)
    file_uses: list[FileUse] = field(default_factory=list)
    computed_lines: list[int] = field(default_factory=list)
    exports: list[str] = field(default_factory=list)


def scan_module(source: bytes, *, package: str, origin: Path) -> Scan:
    """The imports of that source, relative ones resolved in `package`, which is empty for a script.

    Blocks under `if TYPE_CHECKING` are left out: they never run.

    Raises:
        ConfigError: it is not Python in UTF-8.
    """
    try:
        tree = ast.parse(source.decode("utf-8-sig"), filename=str(origin))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{origin}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except (SyntaxError, ValueError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else 1
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ConfigError(f"{origin}:{line}: not Python {version}: {error}") from None
    scanner = _Scanner(package)
    scanner.visit(tree)
    return scanner.scan


class _Scanner(ast.NodeVisitor):
    def __init__(self, package: str) -> None:
        self.package = package
        self.scan = Scan()
        self.bound: dict[str, str] = {}  # name in this module → dotted name of what was imported

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.scan.imports.append(Import(name=alias.name, line=node.lineno))
            top = alias.name.partition(".")[0]
            self.bound[alias.asname or top] = alias.name if alias.asname else top

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        name = _absolute(node.module or "", level=node.level, package=self.package)
        if name is not None:
            members = tuple(alias.name for alias in node.names)
            self.scan.imports.append(Import(name=name, members=members, line=node.lineno))
            self.bound |= {alias.asname or alias.name: f"{name}.{alias.name}" for alias in node.names}

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name | ast.Attribute) and _last_name(node.test) == "TYPE_CHECKING":
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            self.scan.exports += [each.value for each in ast.walk(node.value) if _is_text(each)]
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id == "__file__":
            self.scan.file_uses.append(FileUse(of=None, line=node.lineno))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        first, dot, rest = _dotted(node.value).partition(".")
        if node.attr == "__file__" and first in self.bound:
            self.scan.file_uses.append(FileUse(of=f"{self.bound[first]}{dot}{rest}", line=node.lineno))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called, first = _last_name(node.func), node.args[0] if node.args else None
        if called in ("import_module", "__import__"):
            self.add_dynamic(node, package=node.args[1] if called == "import_module" and node.args[1:] else None)
        elif called in _READERS and isinstance(first, ast.Name) and first.id in _OWN_NAMES:
            self.scan.file_uses.append(FileUse(of=None, line=node.lineno))
        elif called in ("files", "get_data") and _is_text(first):
            self.scan.file_uses.append(FileUse(of=first.value, line=node.lineno))
        self.generic_visit(node)

    def add_dynamic(self, node: ast.Call, *, package: ast.expr | None) -> None:
        first = node.args[0] if node.args else None
        if not _is_text(first):
            self.scan.computed_lines.append(node.lineno)
            return
        name = first.value.lstrip(".")
        within = package.value if _is_text(package) else self.package
        absolute = _absolute(name, level=len(first.value) - len(name), package=within)
        if absolute:
            self.scan.imports.append(Import(name=absolute, line=node.lineno))


def _absolute(name: str, *, level: int, package: str) -> str | None:
    """None for a relative import that leads out of the package; Python refuses it when it runs."""
    if level == 0:
        return name
    above = package.split(".")
    if not package or level > len(above):
        return None
    return ".".join(filter(None, [*above[: len(above) - level + 1], name]))


class _Text(ast.Constant):
    value: str


def _is_text(node: ast.AST | None) -> TypeGuard[_Text]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _dotted(node: ast.expr) -> str:
    """`a.b.c`, or nothing for what is no dotted name."""
    if isinstance(node, ast.Attribute):
        return f"{inner}.{node.attr}" if (inner := _dotted(node.value)) else ""
    return node.id if isinstance(node, ast.Name) else ""
