"""Tells the counts of the campaigns after the tests, whatever pytest captured."""

from collections.abc import Callable

import pytest

_counts = pytest.StashKey[list[str]]()


@pytest.fixture
def tell(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Print a line in the summary at the end and keep it in the report."""
    lines = request.config.stash.setdefault(_counts, [])

    def tell_line(line: str) -> None:
        record_property("counts", line)
        lines.append(line)

    return tell_line


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was told."""
    for line in config.stash.get(_counts, []):
        terminalreporter.write_line(line)
