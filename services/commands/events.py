"""`pollen events`: starts what receives notices and posts events, and stops it in order."""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

import uvicorn
from prefect.settings import get_current_settings

from pollen.errors import PollenError
from services.commands.shared import guarded
from services.events import sns, sqs
from services.events.app import AppContext, application
from services.events.bursts import PendingBursts
from services.events.connections import BoundedProtocol, allow_connections
from services.events.counters import Counters
from services.events.incoming import Token
from services.events.notices import Notice
from services.events.posting import Poster
from services.events.receiver import Receiver
from services.events.roots import WatchedRoots
from services.events.status import ReceiverStatus, status_of
from services.exit_codes import COULD_NOT_RUN, DONE, SOME_FAILED
from services.prefect_server.connection import without_password
from services.site import Overrides, Site, read_site

TOKEN: Final = "POLLEN_EVENTS_TOKEN"
#: Least number of characters of the token.
SHORTEST_TOKEN: Final = 16
#: Seconds to post what waits when the command is stopped, and before that for requests being handled.
FLUSH_S: Final = 20.0
FINISH_S: Final = 3
#: Seconds for the reader of the queue to finish its batch.
READER_S: Final = 20.0
#: Seconds between two lines in the log about refused requests.
LOG_REFUSED_EVERY_S: Final = 60.0

_MAKE_ONE: Final = "make one with `openssl rand -hex 32`"

_log = logging.getLogger("pollen.events")


def run_events(config: Path | None, host: str, port: int, *, verbose: bool = False) -> int:
    """Receive notices until stopped by SIGTERM or Ctrl-C.

    Args:
        config: The site file; None for the application's.
        host: Address to listen at.
        port: Port to listen at; 0 for any that is free.
        verbose: Log every step.

    Returns:
        The exit code: 0 if every upload was posted, 1 if some were not, 2 if the command could not run.
    """
    _set_up_logging(verbose=verbose)

    def work() -> int:
        site = read_site(config, Overrides())
        token = token_from_environment(site)
        if get_current_settings().api.url is None:
            raise PollenError(
                "no Prefect server is named: set PREFECT_API_URL to its address, such as http://127.0.0.1:4200/api"
            )
        return asyncio.run(_Service(site, token).run(host, port))

    return guarded(
        work,
        stopped="stopped: the next sweep finds what was not posted",
        kept="the next sweep finds what was not posted",
        verbose=verbose,
    )


def token_from_environment(site: Site) -> Token | None:
    """Return the token of senders, or None if notices come from a queue only.

    Raises:
        PollenError: If a token is needed and not set, or is not a good one.
    """
    text = os.environ.get(TOKEN, "").strip()
    if not text:
        if site.events.sns_topics:
            # Even with a queue: without a token every message of these topics would be refused, and lost.
            raise PollenError(
                f"{TOKEN} is not set, but events.sns_topics in site.yaml lists topics, whose messages are accepted "
                f"only with the token. {_MAKE_ONE}, set this variable to it, and subscribe /events/<token> to them"
            )
        if site.events.sqs_queue:
            return None
        raise PollenError(
            f"{TOKEN} is not set: without a secret anybody could start runs. {_MAKE_ONE}, set this variable to it (on "
            "a cluster, key token of the Secret pollen-events), and give it to the storage"
        )
    if len(text) < SHORTEST_TOKEN:
        raise PollenError(
            f"{TOKEN} has {len(text)} characters; expected at least {SHORTEST_TOKEN}: {_MAKE_ONE}"
        )
    if "/" in text or len(text.split()) > 1:
        raise PollenError(
            f"{TOKEN} contains a slash or a blank, so it can't be sent in an address or a header: {_MAKE_ONE}"
        )
    return Token(os.fsencode(text))


def _set_up_logging(*, verbose: bool) -> None:
    """Write log lines with their time, because this command runs unattended for months."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("pollen")
    log.handlers[:] = [handler]
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    log.propagate = False
    # Only errors of uvicorn: otherwise a stranger who sends nonsense could fill the disk.
    server = logging.getLogger("uvicorn.error")
    server.handlers[:] = [handler]
    server.setLevel(logging.ERROR)
    server.propagate = False


class _Server(uvicorn.Server):
    """A uvicorn that leaves signals to us: its own handlers would end the process before what waits is posted."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Service:
    """The parts of the command, and their order."""

    def __init__(self, site: Site, token: Token | None) -> None:
        self._site = site
        self._counters = Counters()
        self._roots = WatchedRoots(site)
        self._bursts = PendingBursts(site.events.quiet_seconds, site.events.longest_wait_seconds)
        self._poster = Poster(self._bursts, self._counters)
        self._receiver = Receiver(self._roots, self._bursts, self._counters, self._poster.wake)
        self._queue = sqs.QueueCounters() if site.events.sqs_queue else None
        context = AppContext(
            self._receiver,
            self._counters,
            token,
            sns.AcceptedTopics(site.events.sns_topics),
            self._status,
        )
        self._app = application(context)
        self._is_broken = False

    async def run(self, host: str, port: int) -> int:
        """Work until stopped, and return the exit code."""
        allow_connections()
        server = server_of(self._app, host, port)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, setattr, server, "should_exit", True)
        helpers = [
            loop.create_task(self._roots.keep_known()),
            loop.create_task(self._poster.run()),
            loop.create_task(self._log_refused()),
        ]
        for helper in helpers:
            helper.add_done_callback(lambda _: setattr(server, "should_exit", True))
        stop = threading.Event()
        reader = self._start_reader(stop, lambda: setattr(server, "should_exit", True))
        self._log_start(host, port)
        try:
            await server.serve()
        except SystemExit as error:  # raised by uvicorn if the port is taken
            raise PollenError(
                f"can't listen at {host}, port {port}: another program may use the port. Name another one with --port"
            ) from error
        finally:
            stop.set()
        # The reader hands notices to this loop, so the loop must not wait for it.
        if reader is not None:
            await asyncio.to_thread(reader.join, READER_S)
        return await self._stop(helpers)

    async def _stop(self, helpers: list["asyncio.Task[None]"]) -> int:
        broken = [each for each in helpers if each.done()]
        for each in helpers:
            each.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        self._receiver.take_held()
        waiting = sum(each.uploads for each in self._bursts.pending)
        if waiting:
            _log.info("stopping after these uploads are posted: %d", waiting)
        try:
            left = await self._poster.flush(FLUSH_S)
        except Exception:  # noqa: BLE001  (what is left is logged all the same)
            _log.exception("uploads could not be posted because of an unexpected error")
            left = sum(each.uploads for each in self._bursts.pending)
        if left:
            _log.warning(
                "uploads that were not posted: %d (%s): the next sweep finds them",
                left,
                self._counters.trouble,
            )
        _log.info("stopped")
        for each in broken:
            each.result()
        if broken or self._is_broken:
            return COULD_NOT_RUN
        return SOME_FAILED if left else DONE

    def _start_reader(
        self, stop: threading.Event, end: Callable[[], None]
    ) -> threading.Thread | None:
        url = self._site.events.sqs_queue
        if url is None:
            return None
        loop = asyncio.get_running_loop()

        async def take(notices: list[Notice]) -> None:
            self._receiver.take(notices)

        def hand_over(notices: list[Notice]) -> None:
            asyncio.run_coroutine_threadsafe(take(notices), loop).result()

        def read() -> None:
            try:
                sqs.read_queue(url, hand_over, stop, counters=self._queue)
            finally:
                # Broken unless it was stopped. The command ends with it, or the queue would fill up unseen.
                self._is_broken = not stop.is_set()
                with suppress(RuntimeError):  # it took longer than READER_S, and the loop is closed
                    loop.call_soon_threadsafe(end)

        reader = threading.Thread(target=read, name="queue", daemon=True)
        reader.start()
        return reader

    async def _log_refused(self) -> None:
        """Log one line a minute at most, however many requests were refused."""
        logged: Counter[str] = Counter()
        while True:
            await asyncio.sleep(LOG_REFUSED_EVERY_S)
            new = self._refused - logged
            logged = self._refused
            if new:
                reasons = ", ".join(f"{number} {reason}" for reason, number in new.items())
                _log.warning("refused in the last minute: %s", reasons)

    def _status(self) -> ReceiverStatus:
        known = self._roots.known
        names = None if known is None else tuple(root.name for root in known)
        queue = None if self._queue is None else asdict(self._queue)
        return status_of(self._counters, self._refused, names, self._bursts.pending, queue)

    @property
    def _refused(self) -> Counter[str]:
        """Requests and connections that were refused since the start, by reason."""
        return self._counters.refused + BoundedProtocol.refused

    def _log_start(self, host: str, port: int) -> None:
        events = self._site.events
        _log.info(
            "pollen events at %s, port %d, for the Prefect server at %s: a run starts %.0f s after the last upload, at "
            "most %.0f s after the first",
            host,
            port,
            without_password(str(get_current_settings().api.url)),
            events.quiet_seconds,
            events.longest_wait_seconds,
        )


def server_of(app: object, host: str, port: int) -> uvicorn.Server:
    """Return the server of an application, with every resource bounded."""
    return _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]  # Starlette and uvicorn name the same types differently
            host=host,
            port=port,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            # Paths may hold the token.
            access_log=False,
            server_header=False,
            # No limit_concurrency, which would answer 503 to everybody: BoundedProtocol and the app have limits.
            backlog=256,
            h11_max_incomplete_event_size=16 * 1024,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=FINISH_S,
        )
    )
