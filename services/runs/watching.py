"""Watches a run until it ends: states and log lines as they come, its progress, what came of it."""

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
from services.console import ERR, FAILED_SHOWN, LINE_EVERY_SECONDS, OUT, say_error
from services.exit_codes import COULD_NOT_RUN, DONE, SOME_FAILED
from services.prefect_server.automation_states import RESTARTING
from services.prefect_server.published import failed_images, percent_of, progress_of
from services.runs.news import Changed, Line, News
from tasks.cluster.shards import LOST
from tasks.detection.summary import Outcome

#: How often the server is asked, in seconds.
ASK_EVERY_SECONDS = 2.0
#: Log lines reach the server some seconds after a run has ended.
LAST_LINES_SECONDS = 3.0
#: How long a run is watched for what automations make of its end, such as a new start.
AGAIN_SECONDS = 30.0
#: How much longer than the time it is said to take until a run is started again.
RESTART_SECONDS = 600.0
#: How the state Restarting says that time (deployments/automations/crashed.yaml).
_MINUTES = re.compile(r"started again in (\d+) minutes")
#: How long the server may be away.
PATIENCE_SECONDS = 600.0


def watch(client: SyncPrefectClient, run: FlowRun) -> int:
    """Show what happens to a run until it ends; returns the exit code that goes with its end.

    Ctrl-C asks whether the run is to be cancelled; without a terminal to ask at, the run goes on.

    Raises:
        PollenError: The server stays away, or the person does not want to watch any longer.
    """
    news = News(client, run.id)
    asked = False
    while True:
        try:
            with View() as view:
                _follow(news, view)
            return conclude(news)
        except KeyboardInterrupt:
            if asked or not _is_to_end(news.run):
                raise PollenError(
                    f"not watched any longer: the run goes on. To watch it again: pollen run watch {run.id}"
                ) from None
            asked = True
            client.set_flow_run_state(run.id, State(type=StateType.CANCELLING))
            _say("cancelling; Ctrl-C once more stops watching")


def _is_to_end(run: FlowRun) -> bool:
    """Ask a person, where there is one."""
    if not (sys.stdin.isatty() and ERR.is_terminal):
        return False
    try:
        return typer.confirm(f"\nCancel the run '{run.name}'?", default=False, err=True)
    except (typer.Abort, KeyboardInterrupt):
        return False


def _follow(news: News, view: "View") -> None:
    """Tell news until the run has ended for good.

    Raises:
        PollenError: The server stays away.
    """
    heard = time.monotonic()
    last: tuple[float, UUID | None] | None = None
    while True:
        try:
            is_final = _tell(news, view)
            if not is_final:
                last = None
            elif last is None or last[1] != news.run.state_id:
                last = time.monotonic() + _linger(news), news.run.state_id
            heard = time.monotonic()
        except httpx.HTTPError as error:
            _bear(error, time.monotonic() - heard)
            last = None
        if last is not None and time.monotonic() >= last[0]:
            return
        time.sleep(ASK_EVERY_SECONDS)


def _bear(error: httpx.HTTPError, seconds: float) -> None:
    """Go on where the server may come back.

    Raises:
        PollenError: It was away for too long.
        httpx.HTTPStatusError: It is there and refuses.
    """
    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500:
        raise error
    if seconds > PATIENCE_SECONDS:
        raise PollenError(
            f"the Prefect server has not answered for {PATIENCE_SECONDS / 60:.0f} minutes ({type(error).__name__}); "
            "the run may go on all the same. Check the server, then watch it again"
        ) from error
    _say(f"the Prefect server does not answer ({type(error).__name__}); asking again")


def _linger(news: News) -> float:
    """How long a run that has ended is looked at further: what automations do next may not be its end.

    A crashed run becomes Restarting, and then starts again; one that waited too long is Cancelled before it gets the
    state that says why, and where that is LostBeforeStart, it starts again too (deployments/automations).
    """
    state = news.run.state
    if state is None:
        return LAST_LINES_SECONDS
    if state.name == RESTARTING:
        said = _MINUTES.search(state.message or "")
        return RESTART_SECONDS + (60 * int(said[1]) if said else 0)
    if state.is_crashed() or state.name == LOST or (state.is_cancelled() and news.was_given_up()):
        return AGAIN_SECONDS
    return LAST_LINES_SECONDS


def _tell(news: News, view: "View") -> bool:
    """Show what is new; returns whether the run has ended."""
    for item in news:
        view.show(item)
    view.progress(percent_of(news.artifacts), progress_of(news.artifacts))
    return news.run.state is not None and news.run.state.is_final()


def conclude(news: News) -> int:
    """Print what came of a run; returns the exit code."""
    run = news.run
    rows, number = failed_images(news.artifacts)
    for name, reason in rows[:FAILED_SHOWN]:
        OUT.print("[red]failed[/] ", end="")
        OUT.print(f"{name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if number > len(rows[:FAILED_SHOWN]):
        OUT.print(f"... and {number - len(rows[:FAILED_SHOWN])} more in pollen_counts.csv")
    state = run.state
    said = state.message if state is not None else ""
    code = exit_code_of(run)
    if code == COULD_NOT_RUN:
        say_error(f"{run.state_name}: {said or 'the state says nothing more'}")
        _say(f"what happened, and what to do: pollen doctor {run.id}")
    else:
        OUT.print(f"{run.state_name}: {said}", markup=False, highlight=False, soft_wrap=True)
    return code


def exit_code_of(run: FlowRun) -> int:
    """0 done, 1 done but some pictures failed, 2 no pictures, or failed, crashed, cancelled."""
    if run.state is None or not run.state.is_completed():
        return COULD_NOT_RUN
    codes: dict[str, int] = {
        Outcome.NO_IMAGES: COULD_NOT_RUN,
        Outcome.WITH_FAILURES: SOME_FAILED,
    }
    return codes.get(run.state.name or "", DONE)


def _say(text: str) -> None:
    ERR.print(text, markup=False, highlight=False, soft_wrap=True)


class View:
    """Lines as they come; on a terminal also a bar below them."""

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
        """Move the bar; without a terminal, a line now and then."""
        if percent is None or text == self._text:
            return
        if ERR.is_terminal:
            self._text = text
            if self._task is None:
                self._task = self._bar.add_task(text, total=100)
            self._bar.update(self._task, completed=percent, description=text)
        elif time.monotonic() - self._printed > LINE_EVERY_SECONDS:
            self._text, self._printed = text, time.monotonic()
            _say(text)
