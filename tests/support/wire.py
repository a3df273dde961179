"""Faults on the wire: answers that a real S3 server gives on bad days, below boto's own retries."""

import io
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from urllib3.response import HTTPResponse

from tasks.storage import store as storage

_BODY = "<Error><Code>{code}</Code><Message>injected</Message></Error>"
_CODES = {
    403: "AccessDenied",
    404: "NoSuchKey",
    409: "ConditionalRequestConflict",
    500: "InternalError",
    503: "SlowDown",
}


@dataclass
class _Fault:
    operation: str
    part: str
    status: int
    times: int


@dataclass
class Wire:
    """Sees every request of the clients that stages make, and answers some in the server's place.

    Attributes:
        seen: Requests by operation, the refused ones included.
        refused: Requests that got an injected answer, by operation.
    """

    seen: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    before: Callable[[str, str], None] = lambda _operation, _url: None
    _faults: list[_Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, operation: str, status: int, *, times: int = 10**9, part: str = "") -> None:
        """Answer the next ``times`` requests whose address contains ``part`` with ``status``."""
        self._faults.append(_Fault(operation, part, status, times))

    def heal(self) -> None:
        """Inject nothing more."""
        self._faults.clear()

    def attach(self, client: Any) -> None:  # noqa: ANN401  (a boto client)
        """Watch a client."""
        client.meta.events.register("before-send.s3", self._answer)

    def _answer(
        self, request: AWSPreparedRequest, event_name: str, **_: object
    ) -> AWSResponse | None:
        operation, url = event_name.rpartition(".")[2], str(request.url)
        self.before(operation, url)
        with self._lock:
            self.seen[operation] += 1
            for fault in self._faults:
                if fault.operation == operation and fault.part in url and fault.times > 0:
                    fault.times -= 1
                    self.refused[operation] += 1
                    return _response(url, fault.status, operation)
        return None


def _response(url: str, status: int, operation: str) -> AWSResponse:
    body = b"" if operation.startswith("Head") else _BODY.format(code=_CODES[status]).encode()
    raw = HTTPResponse(io.BytesIO(body), status=status, preload_content=False)
    headers = HTTPHeaders()
    headers["Content-Length"] = str(len(body))
    return AWSResponse(url, status, headers, raw)


def tapped(monkeypatch: pytest.MonkeyPatch, *, boto_attempts: int = 1) -> Wire:
    """Watch all clients that stages make from now on; boto itself tries ``boto_attempts`` times."""
    wire = Wire()
    make = storage._client

    def watched(*args: Any) -> Any:  # noqa: ANN401  (passes through)
        client = make(*args)
        wire.attach(client)
        return client

    retries = {"total_max_attempts": boto_attempts, "mode": "standard"}
    monkeypatch.setitem(storage.CLIENT_CONFIG, "retries", retries)
    monkeypatch.setattr(storage, "_client", watched)
    return wire
