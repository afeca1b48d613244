"""Which overrides and parameters hold a secret themselves, by their names; what refers to one does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from nemo_runspec.config.provenance import is_secret

_NAMES = "token|secret|password|passwd|api_?key|secret_access_key|credentials?"
_OF_A_TOKENIZER = "pad|bos|eos|unk|mask|sep|cls|special|image|begin|end"
_REFERENCE = "${oc.env:"


def _any_case(text: str) -> str:
    return re.sub("[a-z]", lambda found: f"[{found[0].upper()}{found[0]}]", text)  # (?i) is not for JSON Schema


SECRET_OVERRIDE = (
    r"(?:^|[_.\-+{,'\"\s?&])"
    + "".join(f"(?<!{_any_case(word)}_)" for word in _OF_A_TOKENIZER.split("|"))
    + rf"(?:{_any_case(_NAMES)})(?:=|['\"]?\s*:\s*)(?!{re.escape(_REFERENCE)})[^\s}},]"
)
"""Found in an override that holds a secret: as a pattern, because a server that must not see it is to refuse it."""


def find_secrets(parameters: Any, place: str = "") -> Iterator[str]:
    """Where there are secrets: keys with dots, and overrides by their keys."""
    if isinstance(parameters, dict):
        for key, value in parameters.items():
            if isinstance(value, str) and value and is_secret(str(key)) and not value.startswith(_REFERENCE):
                yield f"{place}{key}"
            else:
                yield from find_secrets(value, f"{place}{key}.")
    elif isinstance(parameters, list | tuple):
        for item in parameters:
            yield from find_secrets(item, place)
    elif isinstance(parameters, str) and re.search(SECRET_OVERRIDE, parameters):
        yield f"{place}{parameters.partition('=')[0]}"
