"""How checks are run: none of them may stop the doctor, and none may take for ever."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Final

from pollen.errors import PollenError
from services.doctor.finding import Category, Finding, Level

#: Seconds a check may take in all; each connection it makes gives up sooner.
CHECK_SECONDS: Final = 20.0
#: Seconds one connection may take.
CONNECT_SECONDS: Final = 4.0
#: Seconds a request to the Prefect server may take.
READ_SECONDS: Final = 8.0


@dataclass(frozen=True)
class About:
    """Makes findings of one category."""

    category: Category

    def ok(self, summary: str, detail: str = "") -> Finding:
        """As it should be."""
        return Finding(Level.OK, self.category, summary, detail)

    def info(self, summary: str, detail: str = "", resolution: str = "") -> Finding:
        """Good to know, or not looked at."""
        return Finding(Level.INFO, self.category, summary, detail, resolution)

    def warning(self, summary: str, detail: str = "", resolution: str = "") -> Finding:
        """Wants a look."""
        return Finding(Level.WARNING, self.category, summary, detail, resolution)

    def error(self, summary: str, detail: str = "", resolution: str = "") -> Finding:
        """Will not work."""
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
        about: What kind of finding.
        what: What is looked at, for findings about the check itself.
        check: Yields findings; those yielded before it fails are kept.
        found: Where findings go.
        seconds: How long it may take.
        late: What is found if it takes longer; None: that it has no answer, an error.
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
                resolution="see whether the server is overloaded, or a firewall drops packets in between",
            )
        )
    except PollenError as error:
        found.append(about.error(str(error)))
    except Exception as error:
        logging.getLogger("pollen").debug("unexpected", exc_info=True)
        found.append(
            about.warning(
                f"{what} could not be looked at: unexpected error ({type(error).__name__}: {error})",
                resolution="run `pollen doctor --verbose` and report what it prints",
            )
        )


async def in_thread(check: Callable[[], Iterable[Finding]]) -> AsyncIterator[Finding]:
    """A check that waits for sockets in the old way, as one that can run beside others.

    Its thread is a daemon: where the check hangs, it is left behind, and the program can end.
    """
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[Finding | Exception | None] = asyncio.Queue()

    def tell(word: Finding | Exception | None) -> None:
        with suppress(RuntimeError):  # nobody listens any more
            loop.call_soon_threadsafe(told.put_nowait, word)

    def look() -> None:
        try:
            for finding in check():
                tell(finding)
        except Exception as error:  # noqa: BLE001  (raised below, where it is waited for)
            tell(error)
        else:
            tell(None)

    # With the settings that hold here: Prefect keeps them in a context variable.
    threading.Thread(target=copy_context().run, args=(look,), daemon=True).start()
    while (word := await told.get()) is not None:
        if isinstance(word, Exception):
            raise word
        yield word
