"""The first model in production of every root: the bundled one, where none was promoted before."""

from functools import partial

from pollen.errors import PollenError
from services.setup.limits import roots
from services.setup.plan import Change, Step, keep
from services.site import Site
from tasks.models.promotions import Order, register_bundled
from tasks.models.resolve import read_history
from tasks.storage.store import Location, open_store

KIND = "model"

#: Whoever waits for a plan can't wait as long as a run can.
_QUICK = {"retries": {"total_max_attempts": 2}, "connect_timeout": 5, "read_timeout": 10}


def plan_models(site: Site, *, block_will_change: bool) -> list[Step]:
    """What is to be done with the models of this site's roots.

    Args:
        site: What is declared.
        block_will_change: The bucket's block is about to be made or changed: what is in the bucket
            can be seen only afterwards.
    """
    if block_will_change:
        return [_later(root) for root in roots(site)]
    return [_step(root) for root in roots(site)]


def _later(root: Location) -> Step:
    detail = "the bundled model goes into production if none was promoted there before"
    return Step(Change(KIND, root.address, "create", detail), partial(_register, root))


def _step(root: Location) -> Step:
    try:
        history = read_history(open_store(root, _QUICK))
    except PollenError as error:
        # Storage may well be out of reach here and not for runs. The rest is set up all the same.
        detail = f"what is in production can't be seen: {error}"
        change = Change(KIND, root.address, "create", detail, attention=True)
        return Step(change, partial(_fail, error))
    if not history.highest:
        detail = "the bundled model goes into production: none was promoted there before"
        return Step(Change(KIND, root.address, "create", detail), partial(_register, root))
    if history.current is None:
        detail = f"promotion {history.highest} can't be read: see `pollen models list`"
        return keep(KIND, root.address, detail, attention=True)
    return keep(KIND, root.address, f"{history.current.version} (promotion {history.highest})")


def _register(root: Location) -> None:
    # The quick look comes first: registering waits and tries again as long as a run would.
    if not read_history(open_store(root, _QUICK)).highest:
        register_bundled(root, Order.now("set-up"))


def _fail(error: PollenError) -> None:
    """What could not be read a moment ago is not written to: one wait is enough."""
    raise error
