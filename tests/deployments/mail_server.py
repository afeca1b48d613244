"""An SMTP server that keeps what it was sent."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import cast


@dataclass(kw_only=True)
class MailServer:
    """Its port, and the messages that came."""

    port: int
    received: list[EmailMessage] = field(default_factory=list)

    def texts(self) -> list[str]:
        """Subject and text of each."""
        return [f"{mail['subject']}\n{mail.get_body(('plain',)).get_content()}" for mail in self.received]


@contextmanager
def running_mail_server() -> Iterator[MailServer]:
    """A server for the block; RFC 5321, as far as a client without extensions needs it."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 here")
            while (command := self.rfile.readline().strip().upper()) not in (b"", b"QUIT"):
                if command == b"DATA":
                    self.say("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    mail = message_from_bytes(
                        b"".join(line.removeprefix(b".") for line in lines), policy=policy.default
                    )
                    server.received.append(cast("EmailMessage", mail))
                self.say("250 ok")
            self.say("221 bye")

        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    class Server(ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as tcp:
        server = MailServer(port=tcp.server_address[1])
        threading.Thread(target=tcp.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            tcp.shutdown()
