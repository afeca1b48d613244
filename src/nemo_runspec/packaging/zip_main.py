"""Begin of the `__main__.py` of a packaged file: makes ready to run the script inside. Nothing of ours is imported."""

from __future__ import annotations

import sys
from types import CodeType, TracebackType
from typing import Protocol


class Archive(Protocol):
    """What this needs of zipimport.zipimporter."""

    archive: str

    def get_data(self, pathname: str, /) -> bytes:
        """The content at that path."""


def load_script(loader: Archive, place: str) -> CodeType:
    """The code of the script; errors in it will show its lines, and nothing of how it was started."""
    import linecache
    import os
    import traceback

    path = os.path.join(loader.archive, *place.split("/"))
    source = loader.get_data(path).decode("utf-8-sig")
    # As for what a loader brings: without a time, so that it is not looked for on disk.
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        own = trace
        while own is not None and own.tb_frame.f_code.co_filename != path:
            own = own.tb_next
        # Before Python 3.13 the interpreter's own hook does not read sources from an archive.
        traceback.print_exception(kind, error, own or trace)

    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = show
    return compile(source, path, "exec", dont_inherit=True)
