"""Names of flow runs, and the states that stories end in."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from pollen.errors import PollenError
from tasks import flow_runs
from tasks.cluster.turns import AnotherWaitsError
from tasks.flow_runs import final_state, named


@dataclass(frozen=True)
class Ended:
    outcome: str = "CompletedWithFailures"
    message: str = "2 images, 1 failed"


def raising(error: Exception) -> Callable[[], Ended]:
    def story() -> Ended:
        raise error

    return story


def test_a_state_has_the_name_and_the_message_of_the_end() -> None:
    state = final_state(Ended)
    assert (state.name, state.message) == ("CompletedWithFailures", "2 images, 1 failed")
    assert state.is_completed()
    assert state.result() == Ended()


def test_an_error_is_a_failed_state_with_the_remedy() -> None:
    state = final_state(raising(PollenError("the key has expired: renew it")), if_heals="Later")
    assert (state.name, state.message) == ("Failed", "the key has expired: renew it")
    assert state.is_failed()


def test_an_error_that_heals_may_have_a_state_of_its_own() -> None:
    busy = raising(PollenError("the server is busy", heals=True))
    assert final_state(busy).name == "Failed"
    state = final_state(busy, if_heals="FailedForNow")
    assert (state.name, state.is_failed()) == ("FailedForNow", True)


def test_a_run_that_leaves_its_work_to_another_found_nothing_new() -> None:
    state = final_state(raising(AnotherWaitsError("'a' waits for its turn")))
    assert (state.name, state.message) == ("NothingNew", "'a' waits for its turn")
    assert state.is_completed()


def test_an_unexpected_error_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        final_state(raising(KeyError("bug")))


@pytest.mark.parametrize(
    ("prefix", "export", "expected"),
    [
        (None, None, "check exports in lab  (lab)"),
        ("", "staging_area/a.zip", "check a.zip in lab  (lab)"),
        ("spring/2", "a.zip", "check a.zip in lab spring/2 (lab/spring/2)"),
    ],
)
def test_a_run_is_named_after_its_parameters(
    prefix: str | None, export: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = {"bucket": "lab", "prefix": prefix, "export": export}
    monkeypatch.setattr(flow_runs, "flow_run", SimpleNamespace(parameters=parameters))

    def shown(export: str) -> str:
        return export.rpartition("/")[2] or "exports"

    name = named("check {export} in {bucket} {prefix} ({root})", export=shown)

    assert name() == expected
