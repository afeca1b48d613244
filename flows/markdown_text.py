"""Text as Markdown that shows it as it is."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")


def escape(text: str) -> str:
    """The text, shown as it is."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, last: Sequence[str] = ()) -> str:
    """A table, empty without rows; `last` has the cells of a last column, in Markdown."""
    cells = [[escape(cell) for cell in row] for row in rows]
    for row, cell in zip(cells, last, strict=False):
        row.append(cell)
    lines = [[escape(name) for name in columns], ["---"] * len(columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else ""


def fenced(text: str) -> str:
    """The lines in a block of code."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
    return f"{fence}\n{text}\n{fence}"


def link(text: str, url: str | None) -> str:
    """A link to a web page; the text alone without one."""
    return f"[{escape(text)}](<{url}>)" if url else escape(text)


def picture(name: str, svg: str) -> str:
    """The picture as part of the page, so that a browser on any machine shows it."""
    return f"![{name}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"
