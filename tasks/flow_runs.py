"""The names of flow runs in the Prefect UI, and the states that they end in."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from pollen.errors import PollenError
from tasks.cluster.turns import AnotherWaitsError
from tasks.progress import Published, watched_by, watcher
from tasks.storage.store import Location

#: The final state of a run that found nothing to do.
NOTHING_NEW = "NothingNew"


class Ending(Protocol):
    """The result of a story.

    Attributes:
        outcome: The name of the final state.
        message: What that state says.
    """

    @property
    def outcome(self) -> str: ...  # noqa: D102

    @property
    def message(self) -> str: ...  # noqa: D102


E = TypeVar("E", bound=Ending)


def named(template: str, **shown: Callable[[str], str]) -> Callable[[], str]:
    """Return a function that names the present flow run, as the Prefect UI shows it.

    Args:
        template: A text with `{parameters}`, of which those without a value leave nothing. `{root}` is
            the place that `bucket` and `prefix` name.
        shown: How single parameters are shown.
    """

    def name() -> str:
        values = {key: value or "" for key, value in flow_run.parameters.items()}
        values |= {key: show(values[key]) for key, show in shown.items()}
        if "bucket" in values:
            root = Location(block=str(values["bucket"]), prefix=str(values.get("prefix", "")))
            values["root"] = root.address
        return template.format(**values).strip()

    return name


def final_state(
    story: Callable[[], E], *, progress: str = "", steps: bool = False, if_heals: str = "Failed"
) -> State[E]:
    """Run a story and return the state that names its end.

    Args:
        story: The stages, in order.
        progress: The artifact that shows the progress in the Prefect UI; empty: none does.
        steps: Whether it shows the steps of the story too.
        if_heals: The name of the final state after an error that may heal.

    Returns:
        A completed state with the outcome and its numbers, or a failed one with the remedy.
    """
    published = Published(watcher(), progress, steps=steps)
    try:
        with watched_by(published if progress else watcher()):
            summary = story()
        if progress:
            published.ended(summary.message)
    except AnotherWaitsError as error:
        return Completed(name=NOTHING_NEW, message=str(error))
    except PollenError as error:
        return Failed(name=if_heals if error.heals else "Failed", message=str(error))
    return Completed(name=summary.outcome, message=summary.message, data=summary)
