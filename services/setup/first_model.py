"""Plan the first model in production of every root: the bundled one, if none was promoted before."""

from functools import partial

from pollen.errors import PollenError
from services.setup.limits import roots
from services.setup.plan import Change, Step, keep
from services.site import Site
from tasks.models.promotions import Order, register_bundled
from tasks.models.registry import read_history
from tasks.storage.store import Location, open_store

KIND = "model"

#: Client settings: people who wait for a plan can't wait as long as a run can.
_QUICK = {"retries": {"total_max_attempts": 2}, "connect_timeout": 5, "read_timeout": 10}


def plan_models(site: Site, *, block_will_change: bool) -> list[Step]:
    """Plan the models of this site's roots.

    Args:
        site: The site.
        block_will_change: Whether the bucket's block will be made or changed: the bucket can be read only
            afterwards.
    """
    if block_will_change:
        return [_later(root) for root in roots(site)]
    return [_step(root) for root in roots(site)]


def _later(root: Location) -> Step:
    detail = "promote the bundled model, unless another was promoted there before"
    return Step(Change(KIND, root.address, "create", detail), partial(_register, root))


def _step(root: Location) -> Step:
    try:
        history = read_history(open_store(root, _QUICK))
    except PollenError as error:
        # Storage may be out of reach from here but not for runs. The rest is set up anyway.
        detail = f"can't read which model is in production: {error}"
        change = Change(KIND, root.address, "create", detail, attention=True)
        return Step(change, partial(_fail, error))
    if not history.highest:
        detail = "promote the bundled model: none was promoted there before"
        return Step(Change(KIND, root.address, "create", detail), partial(_register, root))
    if history.current is None:
        detail = f"promotion {history.highest} can't be read: see `pollen models list`"
        return keep(KIND, root.address, detail, attention=True)
    return keep(KIND, root.address, f"{history.current.version} (promotion {history.highest})")


def _register(root: Location) -> None:
    # Read quickly first: registering retries as long as a run would.
    if not read_history(open_store(root, _QUICK)).highest:
        register_bundled(root, Order.now("set-up"))


def _fail(error: PollenError) -> None:
    """Raise the error of planning: storage that could not be read is not written to."""
    raise error
