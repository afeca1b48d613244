"""A line from each node of a Ray job to its head: who is there, when to end, and at once who was lost.

The head listens; a node proves by the job's token, which it does not send, that it belongs to the job, and stays
connected. `end` from the head is the good end; a connection that closes without it is a lost node, or a lost head.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
import time
from dataclasses import dataclass, field

from nemo_runspec.launch.allocation import LaunchError

END = b"end\n"
HELLO_TIMEOUT_S = 10.0


class JobEnded(Exception):
    """The head has ended the job, well or badly; it knows the exit code."""


@dataclass
class _Guest:
    """A connection to the head; `node` once it has proved itself."""

    connection: socket.socket
    nonce: bytes
    received: bytes = b""
    node: int | None = None


@dataclass
class HeadLink:
    """The head's end."""

    ip: str
    port: int
    token: str
    guests: list[_Guest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server((self.ip, self.port), backlog=1024)
        self._listener.setblocking(False)

    def nodes(self) -> set[int]:
        """The nodes that are connected, as of the last `check`."""
        return {guest.node for guest in self.guests if guest.node is not None}

    def check(self) -> None:
        """Let in who has come.

        Raises:
            LaunchError: a node is gone; with its own words, if it had any.
        """
        with contextlib.suppress(BlockingIOError):
            while True:
                self._welcome(self._listener.accept()[0])
        for guest in list(self.guests):
            open_still = self._read(guest)
            *lines, guest.received = guest.received.split(b"\n")
            for line in lines:
                self._hear(guest, line)
            if not open_still:
                self._dismiss(guest)

    def close(self) -> None:
        """Tell all nodes that this is the end."""
        for guest in self.guests:
            with contextlib.suppress(OSError):
                guest.connection.sendall(END)
            guest.connection.close()
        self._listener.close()

    def _welcome(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        _keep_alive(connection)
        guest = _Guest(connection, nonce=secrets.token_hex(16).encode())
        with contextlib.suppress(OSError):
            connection.sendall(guest.nonce + b"\n")
            self.guests.append(guest)

    def _read(self, guest: _Guest) -> bool:
        try:
            chunk = guest.connection.recv(4096)
        except BlockingIOError:
            return True
        except OSError:
            return False
        guest.received += chunk
        return bool(chunk) and len(guest.received) < 65536

    def _hear(self, guest: _Guest, line: bytes) -> None:
        text = line.decode(errors="replace")
        if guest.node is not None:
            raise LaunchError(f"node {guest.node}: {text}")
        name, _, proof = text.partition(" ")
        if name.isdecimal() and hmac.compare_digest(proof.encode(), prove(self.token, guest.nonce, int(name)).encode()):
            guest.node = int(name)

    def _dismiss(self, guest: _Guest) -> None:
        self.guests.remove(guest)
        guest.connection.close()
        if guest.node is not None:
            raise LaunchError(f"node {guest.node} was lost: its launcher is gone")


class NodeLink:
    """A node's end.

    Raises:
        LaunchError: the head did not answer within `timeout_s`.
    """

    def __init__(self, ip: str, port: int, *, token: str, node: int, timeout_s: float) -> None:
        self._node = node
        self._received = b""
        self._connection = _connect(ip, port, node=node, timeout_s=timeout_s)
        try:
            nonce = self._connection.makefile("rb").readline().strip()
            self._connection.sendall(f"{node} {prove(token, nonce, node)}\n".encode())
        except OSError as error:
            raise LaunchError(f"node {node}: node 0 at {ip}:{port} does not answer: {error}") from error
        self._connection.setblocking(False)
        _keep_alive(self._connection)

    def check(self) -> None:
        """Return if the job goes on.

        Raises:
            JobEnded: the head says so.
            LaunchError: the head is gone.
        """
        try:
            chunk = self._connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        self._received += chunk
        if self._received == END:
            raise JobEnded
        raise LaunchError(f"node {self._node}: node 0 is gone; see its log lines")

    def tell(self, reason: str) -> None:
        """Say why this node leaves, in one line."""
        with contextlib.suppress(OSError):
            self._connection.sendall(f"{reason}\n".encode())


def prove(token: str, nonce: bytes, node: int) -> str:
    """What only who has the token can say to this nonce."""
    return hmac.new(token.encode(), nonce + str(node).encode(), "sha256").hexdigest()


def _connect(ip: str, port: int, *, node: int, timeout_s: float) -> socket.socket:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection = socket.create_connection((ip, port), timeout=HELLO_TIMEOUT_S)
        except OSError as error:
            if time.monotonic() > deadline:
                raise LaunchError(
                    f"node {node} does not reach node 0 at {ip}:{port} ({error}); if that is the wrong network, "
                    "set NEMOTRON_HEAD_IP"
                ) from error
            time.sleep(0.5)
        else:
            return connection


def _keep_alive(connection: socket.socket) -> None:
    """Have a peer that fell silent count as gone after 10 + 6 · 5 s (tcp(7))."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 6)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
