"""A server in front of another one that changes what comes back: such as a clock that is wrong."""

import http.client
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Headers = MutableMapping[str, str]
_PASSED_ON_ANEW = {"connection", "transfer-encoding", "content-length"}


def _as_it_is(headers: Headers) -> None:
    """Change nothing."""


@contextmanager
def proxy(
    target: str,
    answer: Callable[[Headers], None] = _as_it_is,
    refuse: Callable[[], bool] = lambda: False,
) -> Iterator[str]:
    """Pass requests on to ``target`` (http only); yields the address to use in its place.

    The Host header stays that of the proxy, so that signatures hold.

    Args:
        target: Address of the server behind.
        answer: Changes the headers of an answer.
        refuse: Whether to answer with 503 in the server's place.
    """
    behind = urlsplit(target).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            headers = dict(self.headers.items())
            if refuse():
                self.send_response_only(503, "Service Unavailable")
                self.send_header("Content-Length", "0")
                self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            connection = http.client.HTTPConnection(behind, timeout=30)
            try:
                connection.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in headers.items():
                    connection.putheader(name, value)
                connection.endheaders(body)
                came = connection.getresponse()
                content = came.read()
            finally:
                connection.close()
            back = {
                name: value
                for name, value in came.getheaders()
                if name.lower() not in _PASSED_ON_ANEW
            }
            answer(back)
            self.send_response_only(came.status, came.reason)
            for name, value in back.items():
                self.send_header(name, value)
            length = came.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815

        def log_message(self, *_: Any) -> None:  # noqa: ANN401
            """Say nothing."""

    with serving(Handler) as address:
        yield address


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gives up in the middle is no news: its test knows."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answer requests on a free port of this machine; yields the address."""
    server = _Server(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
