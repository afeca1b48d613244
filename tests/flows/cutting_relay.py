"""A way to a server that cuts the first connections off, as a busy server's full queue or a restart does."""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


@contextmanager
def cutting_relay(url: str, *, times: int, on_cut: Callable[[], object] = lambda: None) -> Iterator[str]:
    """The URL of the way: the server's, with another port; `on_cut` is called at each cut."""
    place = urlsplit(url)
    left = iter(range(times))

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if next(left, None) is not None:
                on_cut()
                return
            with socket.create_connection((place.hostname, place.port)) as server:
                back = threading.Thread(target=pump, args=(server, self.request), daemon=True)
                back.start()
                pump(self.request, server)
                back.join()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Relay) as relay:
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        yield place._replace(netloc=f"127.0.0.1:{relay.server_address[1]}").geturl()
        relay.shutdown()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes, and the end of it."""
    with suppress(OSError):
        while chunk := source.recv(1 << 16):
            target.sendall(chunk)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
