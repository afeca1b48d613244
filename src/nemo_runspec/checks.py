"""The result of looking at one thing: what `env check` and `doctor` show. Imports nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["ok", "warning", "failed", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check: `said` is what was found, `advice` what to do about it; `unknown` means that it was not checked."""

    name: str
    outcome: Outcome
    said: str
    advice: str = ""


def passed(name: str, said: str) -> Check:
    """All is well."""
    return Check(name=name, outcome="ok", said=said)


def failed(name: str, said: str, advice: str = "") -> Check:
    """It cannot be used like this."""
    return Check(name=name, outcome="failed", said=said, advice=advice)


def warned(name: str, said: str, advice: str = "") -> Check:
    """It can be used, with a catch."""
    return Check(name=name, outcome="warning", said=said, advice=advice)


def not_checked(name: str, said: str, advice: str = "") -> Check:
    """Nobody knows."""
    return Check(name=name, outcome="unknown", said=said, advice=advice)
