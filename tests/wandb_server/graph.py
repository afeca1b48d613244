"""GraphQL over plain Python objects: `historyLineCount` is the attribute or method `history_line_count`."""

import base64
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from graphql import GraphQLResolveInfo, GraphQLSchema, build_schema

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def load_schema() -> GraphQLSchema:
    """The part of the server's schema that the client uses."""
    files = sorted((Path(__file__).parent / "schema").glob("*.graphql"))
    return build_schema("\n".join(file.read_text() for file in files))


def resolve_field(source: Any, info: GraphQLResolveInfo, **arguments: Any) -> Any:
    """The value of a field; null where the double keeps nothing of that name. Dicts have GraphQL's names."""
    if isinstance(source, dict):
        return source.get(info.field_name)
    value = getattr(source, snake_case(info.field_name), None)
    return value(**{snake_case(name): given for name, given in arguments.items()}) if callable(value) else value


def resolve_type(source: Any, *_: Any) -> str:
    """Which type of an interface or union an object is."""
    name: str = source.graphql_type
    return name


def snake_case(name: str) -> str:
    """`artifactID` → `artifact_id`."""
    return _WORD_START.sub("_", name).lower()


def node_id(kind: str, key: object) -> str:
    """An id as the server makes them."""
    return base64.b64encode(f"{kind}:{key}".encode()).decode()


def connect(
    nodes: Sequence[Any],
    first: int | None = None,
    after: str | None = None,
    edge: Callable[[Any], dict[str, Any]] = lambda node: {"node": node},
) -> dict[str, Any]:
    """One page of the nodes, as GraphQL's connections have them; the cursor is the number of nodes before."""
    start = int(after or 0)
    end = len(nodes) if not first else min(len(nodes), start + first)
    edges = [edge(node) | {"cursor": str(number)} for number, node in enumerate(nodes[start:end], start=start + 1)]
    page = {"hasNextPage": end < len(nodes), "endCursor": str(end)}
    return {"edges": edges, "totalCount": len(nodes), "pageInfo": page}
