"""Run checks: no check may stop the doctor, and none may take forever."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Final, TypeVar

from pollen.errors import PollenError
from services.doctor.finding import Category, Finding, Level

#: Seconds that a check may take in all; its connections give up sooner.
CHECK_SECONDS: Final = 20.0
#: Seconds that one connection may take.
CONNECT_SECONDS: Final = 4.0
#: Seconds that a request to the Prefect server may take.
READ_SECONDS: Final = 8.0


T = TypeVar("T")


@dataclass(frozen=True)
class About:
    """A maker of findings of one category.

    Attributes:
        category: Category of the findings.
    """

    category: Category

    def ok(self, summary: str, detail: str = "") -> Finding:
        """Return a finding that all is as it should be."""
        return Finding(Level.OK, self.category, summary, detail)

    def info(self, summary: str, detail: str = "", resolution: str = "") -> Finding:
        """Return a finding that is good to know, or that something was not checked."""
        return Finding(Level.INFO, self.category, summary, detail, resolution)

    def warning(self, summary: str, detail: str = "", resolution: str = "") -> Finding:
        """Return a finding that needs attention."""
        return Finding(Level.WARNING, self.category, summary, detail, resolution)

    def error(self, summary: str, detail: str = "", resolution: str = "") -> Finding:
        """Return a finding that something will not work."""
        return Finding(Level.ERROR, self.category, summary, detail, resolution)


async def collect(
    about: About,
    what: str,
    check: AsyncIterable[Finding],
    found: list[Finding],
    *,
    seconds: float = CHECK_SECONDS,
    late: Finding | None = None,
) -> None:
    """Run one check; whatever happens in it becomes a finding.

    Args:
        about: Maker of findings about the check itself.
        what: Subject of the check, for those findings.
        check: Yields findings; those yielded before it fails are kept.
        found: List to which findings are added.
        seconds: Seconds that it may take.
        late: Finding if it takes longer; None for an error that there was no answer.
    """
    try:
        async with asyncio.timeout(seconds):
            async for finding in check:
                found.append(finding)  # noqa: PERF401  (what came before a failure is kept)
    except TimeoutError:
        found.append(
            late
            or about.error(
                f"{what}: no answer within {seconds:.0f} s",
                resolution="check whether the server is overloaded, or a firewall drops packets in between",
            )
        )
    except PollenError as error:
        found.append(about.error(str(error)))
    except Exception as error:
        logging.getLogger("pollen").debug("unexpected", exc_info=True)
        found.append(
            about.warning(
                f"{what} could not be checked: unexpected error ({type(error).__name__}: {error})",
                resolution="run `pollen doctor --verbose` and report the output",
            )
        )


async def in_thread(work: Callable[[], Iterable[T]]) -> AsyncIterator[T]:
    """Run work that blocks in a thread of its own, so that it can run beside other checks.

    The thread is a daemon: if the work hangs, the thread is abandoned and the program can end.
    """
    loop = asyncio.get_running_loop()
    results: asyncio.Queue[T | Exception | None] = asyncio.Queue()

    def put(result: T | Exception | None) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(results.put_nowait, result)

    def run() -> None:
        try:
            for result in work():
                put(result)
        except Exception as error:  # noqa: BLE001  (raised below, in the thread that waits)
            put(error)
        else:
            put(None)

    # With the settings of this context: Prefect keeps them in a context variable.
    threading.Thread(target=copy_context().run, args=(run,), daemon=True).start()
    while (result := await results.get()) is not None:
        if isinstance(result, Exception):
            raise result
        yield result
