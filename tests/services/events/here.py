"""The receiver's application with all behind it, in this process and without a Prefect server."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.applications import Starlette

from services.events import sns
from services.events.app import Desk, application
from services.events.counters import Counters
from services.events.gathering import Gathering
from services.events.incoming import Token
from services.events.receiver import Receiver
from services.events.roots import WatchedRoots
from services.events.status import Status, status_of
from services.site import Site
from tests.support.events import TOKEN

BEARER = {"Authorization": f"Bearer {TOKEN}"}
KNOWN = {"storage": {"block": "lab", "bucket": "pictures", "folder": "root"}}
TOPIC = "arn:aws:sns:eu-central-1:123456789012:uploads"


class Verifier(sns.Verifier):
    """Lets pass what says that it is signed; that signatures are looked at is shown elsewhere."""

    def check(self, message: Mapping[str, object]) -> None:
        if message.get("Signature") != "good":
            passing = message.get("Signature") == "busy"
            raise sns.RefusedError("the signature is not SNS's", heals=passing)


@dataclass(frozen=True)
class Client:
    """Asks the application itself; an exception inside comes out."""

    app: Starlette

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, Any] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                return await client.request(method, path, headers=headers, content=content)

        return asyncio.run(ask())

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return self.request("GET", path, headers)


@dataclass
class Here:
    """The application with all behind it."""

    client: Client
    counters: Counters
    gathering: Gathering
    roots: WatchedRoots
    desk: Desk
    confirmed: list[Any]
    queue: dict[str, Any]

    def post(
        self, body: object, path: str = "/events", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.request("POST", path, headers, content)

    @property
    def uploads(self) -> int:
        return sum(each.uploads for each in self.gathering.pending)


def started(site: dict[str, Any] = KNOWN, token: str | None = TOKEN) -> Here:
    counters, gathering = Counters(), Gathering(30, 300)
    roots = WatchedRoots(Site.model_validate(site))
    receiver = Receiver(roots, gathering, counters, lambda: None)
    confirmed: list[Any] = []
    queue: dict[str, Any] = {"messages": 3}

    def status() -> Status:
        known = roots.known
        names = None if known is None else tuple(root.name for root in known)
        return status_of(counters, counters.refused, names, gathering.pending, queue)

    desk = Desk(
        receiver,
        counters,
        None if token is None else Token(token.encode()),
        Verifier([TOPIC]),
        status,
        confirmed.append,
    )
    client = Client(application(desk))
    return Here(client, counters, gathering, roots, desk, confirmed, queue)
