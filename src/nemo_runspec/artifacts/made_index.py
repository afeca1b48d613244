"""Which fingerprint made each version of a name, in one file, so that a search reads no record of another's.

    made/<name>.json      {"v0": "<fingerprint>", "v1": …}

It saves reading and decides nothing: a version that it lacks, because its publisher was killed in between or was of an
older release, is looked up in its record, and the next publication adds it. The only file that is written again.
"""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

_INDEX = TypeAdapter(dict[str, str])


def index_key(name: str) -> str:
    """Where the index of `name` is."""
    return f"made/{name}.json"


def parse_index(content: bytes | None) -> dict[str, str]:
    """Version → fingerprint; empty where there is no index, or none that can be read."""
    try:
        return _INDEX.validate_json(content or b"{}", strict=True)
    except ValidationError:
        return {}
