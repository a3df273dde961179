"""Connections that are kept open for nothing, against a server of the real settings on a real socket."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.commands.events import server_of
from services.embedded.ports import LOOPBACK, free_ports
from services.events import connections
from tests.services.events.here import started
from tests.support.events import TOKEN

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
GET = b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n"


@asynccontextmanager
async def serving() -> AsyncIterator[Callable[[], Coroutine[Any, Any, Streams]]]:
    """A server; yields what opens a connection to it."""
    (port,) = free_ports(1)
    server = server_of(started().client.app, LOOPBACK, port)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield lambda: asyncio.open_connection(LOOPBACK, port)
    finally:
        server.should_exit = True
        await task


async def answer(streams: Streams, request: bytes = GET) -> bytes:
    reader, writer = streams
    writer.write(request)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    return head + await reader.readexactly(int(length.split(b":")[1]))


async def is_closed(streams: Streams) -> bool:
    try:
        return await asyncio.wait_for(streams[0].read(1), 30) == b""
    except ConnectionError:
        return True


def test_a_request_that_does_not_come_to_its_end_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "ANSWER_WITHIN_S", 0.2)

    async def work() -> None:
        async with serving() as connect:
            silent, begun, second = await connect(), await connect(), await connect()
            begun[1].write(GET[:-2])
            assert b"200" in await answer(second)
            second[1].write(GET[:9])  # by now uvicorn has forgotten its own timer
            for each in (silent, begun, second):
                assert await is_closed(each)

    asyncio.run(work())


def test_of_too_many_connections_the_one_that_waits_longest_gives_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 3)

    async def work() -> None:
        async with serving() as connect:
            kept = [await connect() for _ in range(3)]
            for each in kept:
                assert b"200" in await answer(each)
            newest = await connect()
            assert b"200" in await answer(newest)
            assert await is_closed(kept[0])
            assert b"200" in await answer(kept[1])

    asyncio.run(work())


def test_reveals_nothing_about_itself_and_refuses_what_is_not_http() -> None:
    async def work() -> None:
        async with serving() as connect:
            answered = await answer(await connect())
            assert b"server:" not in answered.lower()
            for nonsense in (
                b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
                b"GET / HTTP/1.1\r\n" + b"a" * 70_000,
            ):
                streams = await connect()
                streams[1].write(nonsense)
                said = await asyncio.wait_for(streams[0].read(), 30)
                assert said.startswith(b"HTTP/1.1 400")
            upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            assert b"200" in await answer(await connect(), GET[:-2] + upgrade)

    asyncio.run(work())


def test_a_body_beyond_the_limit_is_answered_while_it_is_being_sent() -> None:
    async def work() -> None:
        async with serving() as connect:
            streams = await connect()
            head = (
                f"POST /events/{TOKEN} HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            streams[1].write(head.encode())
            piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
            reply = asyncio.create_task(answer(streams, b""))
            for _ in range(1600):  # 100 MB
                if reply.done():
                    break
                streams[1].write(piece)
                await streams[1].drain()
            assert b"413" in await reply

    asyncio.run(work())
