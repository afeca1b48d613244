"""Completion in bash of words with `=` and `:`, at which bash splits: `run.data=name:v0` comes as five words."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence

VARIABLE = "_NEMOTRON_COMPLETE"
SEPARATORS = ("=", ":")  # bash(1), COMP_WORDBREAKS


def join_words(words: Sequence[str]) -> tuple[list[str], str]:
    """The words up to the cursor as they were typed, and what of the last one bash does not replace.

    >>> join_words(["nemotron", "nano3", "sft", "run.data", "=", "name", ":", "v"])
    (['nemotron', 'nano3', 'sft', 'run.data=name:v'], 'run.data=name:')
    """
    joined: list[str] = []
    kept = ""
    previous = ""
    for word in words:
        if joined and (word in SEPARATORS or previous in SEPARATORS):
            kept = joined[-1] + (word if word in SEPARATORS else "")
            joined[-1] += word
        else:
            kept = ""
            joined.append(word)
        previous = word
    return joined, kept


@contextlib.contextmanager
def bash_words() -> Iterator[None]:
    """Within the block, if bash asks for a completion: whole words in, and their last parts out."""
    if os.environ.get(VARIABLE) != "complete_bash":
        yield
        return
    position = int(os.environ["COMP_CWORD"])
    words, kept = join_words(os.environ["COMP_WORDS"].split("\n")[: position + 1])
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(words), str(len(words) - 1)
    offered = io.StringIO()
    try:
        with contextlib.redirect_stdout(offered):
            yield
    finally:
        lines = offered.getvalue().splitlines()
        sys.stdout.writelines(f"{line.removeprefix(kept)}\n" for line in lines if line.startswith(kept))
