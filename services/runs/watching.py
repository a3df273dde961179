"""Watch a run until it ends: states and log lines as they come, its progress, its result."""

import logging
import re
import sys
import time
from typing import Self
from uuid import UUID

import httpx
import typer
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from pollen.errors import PollenError
from services.console import ERR, LINE_EVERY_SECONDS, remark, say, say_error, show_failed
from services.exit_codes import COULD_NOT_RUN, DONE, SOME_FAILED
from services.prefect_server.automation_states import RESTARTING
from services.prefect_server.published import failed_images, percent_of, progress_of
from services.runs.news import Changed, Line, News
from tasks.cluster.prefect_calls import is_refusal, wait_for_server
from tasks.cluster.shards import LOST
from tasks.detection.summary import Outcome

#: How often the server is asked, in seconds.
ASK_EVERY_SECONDS = 2.0
#: Log lines reach the server some seconds after a run has ended.
LAST_LINES_SECONDS = 3.0
#: Seconds for which an ended run is watched, because automations may start it again.
AGAIN_SECONDS = 30.0
#: Seconds for which a run is watched after the time at which it should start again.
RESTART_SECONDS = 600.0
#: That time in the message of the state Restarting (deployments/automations/crashed.yaml).
_MINUTES = re.compile(r"started again in (\d+) minutes")
#: Seconds that the server may be away.
PATIENCE_SECONDS = 600.0


def watch(client: SyncPrefectClient, run: FlowRun) -> int:
    """Show what happens to a run until it ends; return the exit code that belongs to its end.

    Ctrl-C asks whether to cancel the run; without a terminal, the run continues.

    Raises:
        PollenError: If the server stays away, or the person stops watching.
    """
    news = News(client, run.id)
    asked = False
    while True:
        try:
            with View() as view:
                _follow(news, view)
            return conclude(news)
        except KeyboardInterrupt:
            if asked or not _confirm_cancel(news.run):
                raise PollenError(
                    f"stopped watching; the run continues. To watch it again: pollen run watch {run.id}"
                ) from None
            asked = True
            client.set_flow_run_state(run.id, State(type=StateType.CANCELLING))
            remark("cancelling; press Ctrl-C again to stop watching")


def _confirm_cancel(run: FlowRun) -> bool:
    """Ask whether to cancel the run; without a terminal, return False."""
    if not (sys.stdin.isatty() and ERR.is_terminal):
        return False
    try:
        return typer.confirm(f"\nCancel the run '{run.name}'?", default=False, err=True)
    except (typer.Abort, KeyboardInterrupt):
        return False


def _follow(news: News, view: "View") -> None:
    """Show news until the run has ended for good.

    Raises:
        PollenError: If the server stays away.
    """
    end: tuple[float, UUID | None] | None = None

    def on_wait(error: httpx.HTTPError) -> None:
        nonlocal end
        end = None  # automations did nothing while the server was away
        remark(f"the Prefect server does not answer ({type(error).__name__}); waiting for it")

    while True:
        try:
            is_final = wait_for_server(lambda: _show_news(news, view), PATIENCE_SECONDS, on_wait)
        except httpx.HTTPError as error:
            if is_refusal(error):
                raise
            raise PollenError(
                f"the Prefect server has not answered for {PATIENCE_SECONDS / 60:.0f} minutes "
                f"({type(error).__name__}). The run may continue without it: check the server, then watch the run again"
            ) from error
        if not is_final:
            end = None
        elif end is None or end[1] != news.run.state_id:
            end = time.monotonic() + _linger(news), news.run.state_id
        if end is not None and time.monotonic() >= end[0]:
            return
        time.sleep(ASK_EVERY_SECONDS)


def _linger(news: News) -> float:
    """Return the seconds for which an ended run is still watched, because automations may change its state.

    A crashed run becomes Restarting and then starts again. A run that waited too long is Cancelled before it gets the
    state that names the reason; if that is LostBeforeStart, it starts again too (deployments/automations).
    """
    state = news.run.state
    if state is None:
        return LAST_LINES_SECONDS
    if state.name == RESTARTING:
        minutes = _MINUTES.search(state.message or "")
        return RESTART_SECONDS + (60 * int(minutes[1]) if minutes else 0)
    if state.is_crashed() or state.name == LOST or (state.is_cancelled() and news.was_given_up()):
        return AGAIN_SECONDS
    return LAST_LINES_SECONDS


def _show_news(news: News, view: "View") -> bool:
    """Show what is new; return whether the run has ended."""
    for item in news:
        view.show(item)
    view.progress(percent_of(news.artifacts), progress_of(news.artifacts))
    return news.run.state is not None and news.run.state.is_final()


def conclude(news: News) -> int:
    """Print the result of a run; return the exit code."""
    run = news.run
    show_failed(*failed_images(news.artifacts))
    state = run.state
    message = state.message if state is not None else ""
    code = exit_code_of(run)
    if code == COULD_NOT_RUN:
        say_error(f"{run.state_name}: {message or 'the state has no message'}")
        remark(f"for the cause and the remedy: pollen doctor {run.id}")
    else:
        say(f"{run.state_name}: {message}")
    return code


def exit_code_of(run: FlowRun) -> int:
    """Return 0 if done, 1 if done but some pictures failed, 2 if there were no pictures or the run failed."""
    if run.state is None or not run.state.is_completed():
        return COULD_NOT_RUN
    codes: dict[str, int] = {
        Outcome.NO_IMAGES: COULD_NOT_RUN,
        Outcome.WITH_FAILURES: SOME_FAILED,
    }
    return codes.get(run.state.name or "", DONE)


class View:
    """The view of a run: lines as they come; on a terminal also a progress bar."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), console=ERR, transient=True
        )
        self._task: TaskID | None = None
        self._printed = -LINE_EVERY_SECONDS
        self._text = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, item: Changed | Line) -> None:
        """Print a new state or log line; those of runs that the run started carry their names."""
        of = f"[{item.run}] " if item.run else ""
        if isinstance(item, Line):
            level = logging.getLevelName(item.level)
            colour = "red" if item.level >= logging.ERROR else "yellow"
            line = Text(
                f"  {of}{item.text}"
                if item.level <= logging.INFO
                else f"  {of}{level}: {item.text}"
            )
            if item.level > logging.INFO:
                line.stylize(colour)
        else:
            line = Text(f"{of}{item.state}", "bold")
            if item.message:
                line.append(f": {item.message}", "not bold")
        ERR.print(line, soft_wrap=True, highlight=False)

    def progress(self, percent: float | None, text: str) -> None:
        """Move the bar; without a terminal, print a line from time to time."""
        if percent is None or text == self._text:
            return
        if ERR.is_terminal:
            self._text = text
            if self._task is None:
                self._task = self._bar.add_task(text, total=100)
            self._bar.update(self._task, completed=percent, description=text)
        elif time.monotonic() - self._printed > LINE_EVERY_SECONDS:
            self._text, self._printed = text, time.monotonic()
            remark(text)
