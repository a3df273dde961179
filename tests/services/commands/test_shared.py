"""Running a story with a Prefect server or without one, and how commands end."""

from collections.abc import Callable

import pytest
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Failed

from pollen.errors import PollenError
from services.commands.shared import guarded, run_story
from services.embedded import EmbeddedPrefect
from services.exit_codes import COULD_NOT_RUN, SOME_FAILED
from tasks.storage.store import Location


@flow(persist_result=False)
def story(remedy: str = "") -> State[bool]:
    """A flow that tells whether it is one, or fails with a remedy."""
    if remedy:
        return Failed(message=remedy)
    return Completed(name="NothingNew", data=FlowRunContext.get() is not None)


def forbidden() -> bool:
    raise AssertionError("this way must not be taken")


def test_without_a_server_the_story_runs_alone() -> None:
    assert run_story(lambda: FlowRunContext.get() is None, forbidden, (None,))


def test_a_block_wants_a_server() -> None:
    place = Location.parse("s3://pollen/x", "laboratory")
    with pytest.raises(PollenError, match="set PREFECT_API_URL, or leave out --block"):
        run_story(forbidden, forbidden, (None, place))


def test_with_a_server_the_story_is_a_flow_run(prefect_server: EmbeddedPrefect) -> None:
    assert run_story(forbidden, lambda: story(return_state=True), ())


def test_a_failed_flow_run_is_an_error_with_its_remedy(prefect_server: EmbeddedPrefect) -> None:
    with pytest.raises(PollenError, match=r"^water the plants$"):
        run_story(forbidden, lambda: story("water the plants", return_state=True), ())


def test_a_server_that_is_away() -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(PollenError, match="start it, or unset PREFECT_API_URL"),
    ):
        run_story(forbidden, lambda: story(return_state=True), ())


def ended(
    capsys: pytest.CaptureFixture[str], work: Callable[[], int], *, verbose: bool = False
) -> tuple[int, str]:
    """The exit code of some work, and its errors."""
    code = guarded(work, stopped="stopped: go on", kept="epochs are kept", verbose=verbose)
    return code, capsys.readouterr().err


def raising(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


def test_the_exit_code_is_that_of_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(capsys, lambda: SOME_FAILED) == (SOME_FAILED, "")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PollenError("no [room]: make some"), "Error: no [room]: make some\n"),
        (KeyboardInterrupt(), "Error: stopped: go on\n"),
    ],
)
def test_what_ends_the_work_is_one_error(
    capsys: pytest.CaptureFixture[str], error: BaseException, told: str
) -> None:
    assert ended(capsys, raising(error)) == (COULD_NOT_RUN, told)


def test_what_nobody_expected_says_what_is_kept_and_how_to_report_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, told = ended(capsys, raising(ZeroDivisionError("by zero")))
    assert code == COULD_NOT_RUN
    assert "unexpected error (ZeroDivisionError: by zero)" in told
    assert "epochs are kept" in told
    assert "--verbose" in told
    with pytest.raises(ZeroDivisionError):
        ended(capsys, raising(ZeroDivisionError("by zero")), verbose=True)
