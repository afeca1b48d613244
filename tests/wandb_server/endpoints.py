"""The server's HTTP side: GraphQL, uploads and downloads, the stream of a run, and the tests' own door `/_double/`."""

import asyncio
import base64
import hashlib
import json
import re
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from graphql import GraphQLError, execute_sync, get_operation_ast, parse, validate

from wandb_server.faults import Faults
from wandb_server.graph import load_schema, resolve_field, resolve_type
from wandb_server.mutations import Root
from wandb_server.state import State

_CHUNK_BYTES = 1 << 20
_MAX_BODY_BYTES = 1 << 40
_MD5_NAME = re.compile(r"[0-9a-f]{32}")


class Endpoints:
    """Answers requests; those of the client need the key, those of the tests and of storage do not."""

    def __init__(self, state: State, *, key: str) -> None:
        self.state = state
        self.schema = load_schema()
        self.faults = Faults()
        self.refused: list[dict[str, Any]] = []
        self._authorization = "Basic " + base64.b64encode(f"api:{key}".encode()).decode()

    def application(self) -> web.Application:
        """To be served; every request passes the faults."""
        application = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[self._with_faults])
        add = application.router.add_route
        add("GET", "/_double/state", self.tell_state)
        add("POST", "/_double/fault", self.order_fault)
        add("DELETE", "/_double/fault", self.clear_faults)
        add("POST", "/graphql", self.graphql)
        add("POST", "/files/{entity}/{project}/{run}/file_stream", self.stream)
        add("PUT", "/storage/{kind}/{name}", self.put)
        add("GET", "/storage/{kind}/{name}", self.get)
        add("POST", "/sdk/otel/{tail:.*}", self.telemetry)
        add("*", "/{tail:.*}", self.unknown)
        return application

    @web.middleware
    async def _with_faults(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.path.startswith("/_double/"):
            return await handler(request)
        operation = _operation_name(await request.json()) if request.path == "/graphql" else None
        fault = self.faults.next(operation=operation, path=request.path, method=request.method)
        if fault is None:
            return await handler(request)
        answer = await handler(request) if fault.after else None
        await asyncio.sleep(fault.delay_s)
        if fault.cut and request.transport is not None:
            request.transport.abort()
        if fault.status is not None:
            return web.json_response({"errors": [{"message": f"ordered {fault.status}"}]}, status=fault.status)
        return answer or (web.Response(status=500) if fault.cut else await handler(request))

    async def tell_state(self, _: web.Request) -> web.Response:
        return web.json_response({**self.state.facts(), "refused": self.refused})

    async def order_fault(self, request: web.Request) -> web.Response:
        self.faults.order(await request.json())
        return web.json_response({})

    async def clear_faults(self, _: web.Request) -> web.Response:
        self.faults.clear()
        return web.json_response({})

    def _check_key(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != self._authorization:
            refusal = json.dumps({"errors": [{"message": "user is not logged in"}]})
            raise web.HTTPUnauthorized(text=refusal, content_type="application/json")

    async def graphql(self, request: web.Request) -> web.Response:
        self._check_key(request)
        answer = self._execute(await request.json())
        if "errors" in answer:
            self.refused.append(answer)
        return web.json_response(answer)

    def _execute(self, body: dict[str, Any]) -> dict[str, Any]:
        name = _operation_name(body)
        self.state.num_operations[name] = self.state.num_operations.get(name, 0) + 1
        document = parse(body["query"])
        if invalid := validate(self.schema, document):
            return {"operation": name, "errors": [{"message": error.message} for error in invalid]}
        result = execute_sync(
            self.schema,
            document,
            Root(self.state),
            variable_values=body.get("variables") or {},
            field_resolver=resolve_field,
            type_resolver=resolve_type,
        )
        answer: dict[str, Any] = {"data": result.data}
        if result.errors:
            answer |= {"operation": name, "errors": [{"message": e.message, "path": e.path} for e in result.errors]}
        return answer

    async def stream(self, request: web.Request) -> web.Response:
        self._check_key(request)
        place = request.match_info
        try:
            run = self.state.get_run(place["entity"], place["project"], place["run"])
        except GraphQLError as error:
            raise web.HTTPNotFound(text=error.message) from error
        run.take_stream(await request.json())
        return web.json_response({"exitcode": None, "limits": {}})

    async def put(self, request: web.Request) -> web.Response:
        target = self.state.blobs.path(request.match_info["kind"], request.match_info["name"])
        md5 = await _save(request, target.with_name(f"{target.name}.{uuid.uuid4().hex}"), target)
        if md5 is None:
            raise web.HTTPBadRequest(text="BadDigest")
        return web.Response(headers={"ETag": f'"{md5}"'})

    async def get(self, request: web.Request) -> web.StreamResponse:
        path = self.state.blobs.path(request.match_info["kind"], request.match_info["name"])
        return web.FileResponse(path) if path.exists() else web.Response(status=404)

    async def telemetry(self, _: web.Request) -> web.Response:
        return web.Response()

    async def unknown(self, request: web.Request) -> web.Response:
        self.refused.append({"path": request.path, "method": request.method})
        raise web.HTTPNotFound(text=f"not in the double: {request.method} {request.path}")


async def _save(request: web.Request, temporary: Path, target: Path) -> str | None:
    """The MD5 of the body, which is now the target; None if the target's name says another."""
    digest = hashlib.md5()
    with temporary.open("wb") as file:
        async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
    if _MD5_NAME.fullmatch(target.name) and target.name != digest.hexdigest():
        temporary.unlink()
        return None
    temporary.replace(target)
    return digest.hexdigest()


def _operation_name(body: dict[str, Any]) -> str:
    # The client sends "" where there is only one.
    operation = get_operation_ast(parse(body["query"]), body.get("operationName") or None)
    return operation.name.value if operation and operation.name else "?"
