"""A local HTTP endpoint that keeps what is sent to it, in place of a chat's webhook."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from services.embedded.ports import LOOPBACK

PATIENCE_S = 120


@dataclass
class Inbox:
    """What arrived.

    Attributes:
        address: Where to send to.
        received: Messages with the path they were sent to, in order.
    """

    address: str = ""
    received: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def of(self, path: str) -> list[dict[str, Any]]:
        """What was sent to a path, such as ``lab``."""
        return [message for to, message in self.received if to == f"/{path}"]

    def until(self, path: str, met: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """What was sent to a path, once it is what is waited for."""
        end = time.monotonic() + PATIENCE_S
        while not met(self.of(path)):
            assert time.monotonic() < end, self.received
            time.sleep(0.2)
        return self.of(path)


@contextmanager
def inbox() -> Iterator[Inbox]:
    """An endpoint that takes everything, inside the block."""
    found = Inbox()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.received.append((self.path, json.loads(body)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    found.address = f"http://{LOOPBACK}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
