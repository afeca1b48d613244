"""Faults that a test orders: the next so many requests of a kind are refused, delayed or cut off."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(kw_only=True)
class Fault:
    """What befalls requests for a GraphQL operation or for paths that begin with `path`.

    `skip` requests pass first, then `times` are hit: delayed by `delay_s` seconds, then answered with `status` or cut
    off without an answer. `after`: only once the request was carried out, so that the client is told of no success.
    """

    operation: str | None = None
    path: str | None = None
    method: str | None = None
    times: int = 1
    skip: int = 0
    delay_s: float = 0.0
    status: int | None = None
    cut: bool = False
    after: bool = False

    def hits(self, *, operation: str | None, path: str, method: str) -> bool:
        """Whether this request is hit; counts it."""
        about = (
            self.operation in (None, operation)
            and path.startswith(self.path or "/")
            and self.method in (None, method)
            and (self.operation is not None or self.path is not None)
        )
        if not about or self.times <= 0:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class Faults:
    """Those ordered and not used up."""

    def __init__(self) -> None:
        self.ordered: list[Fault] = []

    def order(self, document: Mapping[str, Any]) -> None:
        """Add one."""
        self.ordered.append(Fault(**document))

    def clear(self) -> None:
        """From now on all goes well."""
        self.ordered.clear()

    def next(self, *, operation: str | None, path: str, method: str) -> Fault | None:
        """What befalls this request."""
        return next(
            (fault for fault in self.ordered if fault.hits(operation=operation, path=path, method=method)), None
        )
