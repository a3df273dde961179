"""The receiver's application with its parts, in this process and without a Prefect server."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.applications import Starlette

from services.events import sns
from services.events.app import AppContext, application
from services.events.bursts import PendingBursts
from services.events.counters import Counters
from services.events.incoming import Token
from services.events.receiver import Receiver
from services.events.roots import WatchedRoots
from services.events.status import ReceiverStatus, status_of
from services.site import Site
from tests.support.events import TOKEN
from tests.support.sns import TOPIC

BEARER = {"Authorization": f"Bearer {TOKEN}"}
KNOWN = {"storage": {"block": "lab", "bucket": "pictures", "folder": "root"}}


@dataclass(frozen=True)
class Client:
    """Calls the application directly; an exception inside is raised here."""

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
    """The application and its parts."""

    client: Client
    counters: Counters
    bursts: PendingBursts
    roots: WatchedRoots
    context: AppContext
    confirmed: list[Any]
    queue: dict[str, Any]

    def post(
        self, body: object, path: str = "/events", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.request("POST", path, headers, content)

    @property
    def uploads(self) -> int:
        return sum(each.uploads for each in self.bursts.pending)


def started(
    site: dict[str, Any] = KNOWN, token: str | None = TOKEN, topics: Sequence[str] = (TOPIC,)
) -> Here:
    counters, bursts = Counters(), PendingBursts(30, 300)
    roots = WatchedRoots(Site.model_validate(site))
    receiver = Receiver(roots, bursts, counters, lambda: None)
    confirmed: list[Any] = []
    queue: dict[str, Any] = {"messages": 3}

    async def confirm(message: Mapping[str, object]) -> None:
        confirmed.append(message)

    def status() -> ReceiverStatus:
        known = roots.known
        names = None if known is None else tuple(root.name for root in known)
        return status_of(counters, counters.refused, names, bursts.pending, queue)

    context = AppContext(
        receiver,
        counters,
        None if token is None else Token(token.encode()),
        sns.AcceptedTopics(topics),
        status,
        confirm,
    )
    client = Client(application(context))
    return Here(client, counters, bursts, roots, context, confirmed, queue)
