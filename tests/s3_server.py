"""An S3 server for tests: moto behind HTTP, in a process of its own. `python s3_server.py` prints its port.

moto looks whether an object is there and then writes it; one request at a time makes that one step, as it is on S3.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

FAULTS = "/-/faults"
CODES = {"403": "AccessDenied", "409": "ConditionalRequestConflict", "503": "SlowDown"}
Kind = Literal["no answer", "late", "403", "409", "503"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to the next `times` requests whose path matches: done and not answered, delayed, or refused."""

    method: str
    path: str
    kind: Kind
    times: int = 1
    delay_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A running server. Buckets are made by a plain PUT: moto asks for no credentials."""

    endpoint: str

    def use(self, set_variable: Callable[[str, str], object]) -> None:
        """Have clients find it."""
        set_variable("AWS_ENDPOINT_URL", self.endpoint)
        set_variable("AWS_ACCESS_KEY_ID", "id")
        set_variable("AWS_SECRET_ACCESS_KEY", "secret")
        set_variable("AWS_DEFAULT_REGION", "us-east-1")

    def create_bucket(self, name: str) -> None:
        self._send("PUT", f"/{name}", b"")

    def set_faults(self, *faults: Fault) -> None:
        """Let these happen; none ends those that were set."""
        self._send("POST", FAULTS, json.dumps([asdict(fault) for fault in faults]).encode())

    def _send(self, method: str, path: str, content: bytes) -> None:
        request = urllib.request.Request(f"{self.endpoint}{path}", data=content, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200


@contextmanager
def running_s3_server() -> Iterator[S3Server]:
    """A server of its own, empty, for the block."""
    command = [sys.executable, __file__]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=null, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield S3Server(endpoint=f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


class _Faulty:
    """The WSGI application, one request at a time, with the faults that were asked for."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self._one_at_a_time = threading.Lock()
        self._faults: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == FAULTS:
            self._faults = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            start_response("200 OK", [("Content-Length", "0")])
            return []
        fault = self._next_fault(environ)
        if fault and fault["kind"] in CODES:
            return _refuse(fault["kind"], start_response)
        if fault:
            time.sleep(fault["delay_s"])
        with self._one_at_a_time:
            answer = list(self._application(environ, start_response))
        if fault and fault["kind"] == "no answer":
            environ["werkzeug.socket"].close()
        return answer

    def _next_fault(self, environ: dict[str, Any]) -> dict[str, Any] | None:
        for fault in self._faults:
            is_meant = environ["REQUEST_METHOD"] == fault["method"] and re.search(fault["path"], environ["PATH_INFO"])
            if is_meant and fault["times"] > 0:
                fault["times"] -= 1
                return fault
        return None


def _refuse(kind: str, start_response: Callable[..., object]) -> list[bytes]:
    code = CODES[kind]
    body = f"<Error><Code>{code}</Code><Message>as the test wants</Message></Error>".encode()
    start_response(f"{kind} {code}", [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
    return [body]


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    threading.Thread(target=_end_with_parent, daemon=True).start()
    application = _Faulty(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
