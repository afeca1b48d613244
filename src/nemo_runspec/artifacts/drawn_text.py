"""How wide text is shown, and how it is made to fit, in a font that nobody knows yet."""

from __future__ import annotations

import unicodedata

# Widths of DejaVu Sans in ems: it is among the widest that text is shown in.
_NARROW, _NARROW_EM = frozenset("fijlrt.,:;'|!()[]I /-"), 0.40
_WIDE, _WIDE_EM = frozenset("mwMW@%&+=<>~→…─"), 0.98
_CAPITAL_EM, _EAST_ASIAN_EM, _EM = 0.74, 1.1, 0.635
_BOLD = 1.1
_LAST_LATIN = "\u024f"


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """About how wide the text is in a font of `size`, rather too much than too little."""
    return sum(_em(char) for char in text) * size * (_BOLD if bold else 1.0)


def shorten(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """The text as it fits: with `…` in its middle, because names differ at their ends."""
    if text_width(text, size, bold=bold) <= width:
        return text
    for kept in range(min(len(text), int(width)) - 1, 0, -1):
        shown = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        if text_width(shown, size, bold=bold) <= width:
            return shown
    return "…"


def _em(char: str) -> float:
    if unicodedata.combining(char):
        return 0.0
    if unicodedata.east_asian_width(char) in "WF":
        return _EAST_ASIAN_EM
    if char in _NARROW:
        return _NARROW_EM
    if char in _WIDE or char > _LAST_LATIN:
        return _WIDE_EM
    return _CAPITAL_EM if char.isupper() else _EM
