"""What `pollen models` does: asks the registry, gives orders to it, and tells people what came of it."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC

from prefect.settings import get_current_settings
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pollen.classes import GrainClass
from pollen.errors import PollenError
from pollen.models.card import ModelCard
from services.commands.running import guarded
from services.console import OUT, set_up_logging
from services.exit_codes import DONE
from tasks.models.catalogue import Figures, Listed, Shown, list_models, show_model
from tasks.models.promotions import Order, promote, rollback
from tasks.storage.store import Location

#: Of a hash, what people compare.
SHORT = 8


def tell_list(root: str | None, block: str | None, *, verbose: bool = False) -> int:
    """Print all models; returns the exit code."""
    return _done(lambda: _print_list(list_models(_place(root, block))), verbose=verbose)


def tell_one(name: str, root: str | None, block: str | None, *, verbose: bool = False) -> int:
    """Print one model; returns the exit code."""
    return _done(lambda: _print_model(show_model(_place(root, block), name)), verbose=verbose)


def order_promotion(
    version: str, root: str | None, block: str | None, *, note: str, verbose: bool = False
) -> int:
    """Put a model into production; returns the exit code."""
    return _done(
        lambda: _say(promote(_place(root, block), version, Order.now(note)).message),
        verbose=verbose,
    )


def order_rollback(
    to: str | None, root: str | None, block: str | None, *, note: str, verbose: bool = False
) -> int:
    """Go back to an earlier model; returns the exit code."""
    return _done(
        lambda: _say(rollback(_place(root, block), Order.now(note), to).message), verbose=verbose
    )


def _done(work: Callable[[], None], *, verbose: bool) -> int:
    """Do it, or tell why not."""
    set_up_logging(verbose=verbose)

    def and_done() -> int:
        work()
        return DONE

    return guarded(
        and_done,
        stopped="stopped; `pollen models list` shows what is in production",
        kept="models and promotions are never overwritten",
        verbose=verbose,
    )


def _place(root: str | None, block: str | None) -> Location:
    """The registry that is meant."""
    if block is not None and get_current_settings().api.url is None:
        raise PollenError(
            "a block is saved on a Prefect server: set PREFECT_API_URL, or leave --block away"
        )
    if root is not None:
        return Location.parse(root, block)
    if block is None:
        raise PollenError(
            "which models? Name the place that holds trained_models/ with --root (a folder or s3://bucket/prefix), or "
            "a saved block with --block"
        )
    return Location(block=block)


def _print_list(models: Sequence[Listed]) -> None:
    if not models:
        _say("no model is published here; runs by hand use the bundled one")
        return
    table = Table(title="Models", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("version", overflow="fold", min_width=20)
    table.add_column("state", no_wrap=True)
    for name in ("mAP50\nviable", "mAP50\nnon-viable", "count\nerror", "viability\nerror"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("sha256", no_wrap=True)
    for model in models:
        sha256 = model.card.sha256[:SHORT] if model.card else "-"
        table.add_row(Text(model.version), _state(model), *_figures(model.figures), sha256)
    OUT.print(table)
    for model in models:
        if model.trouble:
            _say(f"{model.version}: {model.trouble}")
    if not any(model.in_production for model in models):
        _say("None of them is in production; runs by hand use the bundled model.")


def _state(model: Listed) -> Text:
    if model.in_production:
        return Text("production", "bold green")
    return Text("unusable" if model.trouble else "published")


def _figures(figures: Figures | None) -> Iterator[str]:
    """mAP50 of both classes, count error, viability error; ``-`` for what is not known."""
    for item in GrainClass:
        value = figures.new.map50.get(item.label) if figures else None
        yield "-" if value is None else f"{value:.3f}"
    count = figures.new.overall.count_error_percent if figures else None
    yield "-" if count is None else f"{count:.2f} %"
    viability = figures.new.overall.viability_error if figures else None
    yield "-" if viability is None else f"{viability:+.2f} pts"


def _print_model(shown: Shown) -> None:
    table = Table(title=f"Model {shown.card.version}", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("in production", "yes" if shown.in_production else "no")
    names = ("mAP50 viable", "mAP50 non-viable", "count error", "viability error")
    if shown.figures is not None:
        table.add_row("measured on", shown.figures.split)
        for name, value in zip(names, _figures(shown.figures), strict=True):
            table.add_row(name, value)
        if shown.figures.gate is not None:
            for reason in shown.figures.gate.reasons:
                table.add_row("gate", Text(reason))
    if shown.lost:
        table.add_row("not promoted", Text(shown.lost))
    for name, value in _facts(shown.card):
        table.add_row(name, value)
    for number, made in shown.promotions.items():
        at = made.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if made.at else ""
        said = ", ".join(part for part in (made.kind, at, made.by, made.note) if part)
        table.add_row(f"promotion {number}", Text(said))
    table.add_row("more in", Text(shown.address))
    OUT.print(table)


def _facts(card: ModelCard) -> Iterator[tuple[str, str]]:
    """What a card says, in words; what it does not say is left out."""
    for name, value in card.model_dump(mode="json", exclude={"version", "metrics"}).items():
        if value is not None:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield name.replace("_", " "), text


def _say(text: str) -> None:
    OUT.print(text, markup=False, highlight=False, soft_wrap=True)
