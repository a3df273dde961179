"""The bodies of `pollen models ...`: read the registry, change what is in production, and print the outcome."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC

from prefect.settings import get_current_settings
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pollen.errors import PollenError
from pollen.evaluation import wording
from pollen.evaluation.record import Metrics
from pollen.models.card import ModelCard
from services.commands.shared import guarded
from services.console import OUT, say, set_up_logging
from services.exit_codes import DONE
from tasks.models.catalogue import ListedModel, ModelDetails, list_models, show_model
from tasks.models.promotions import Order, promote, rollback
from tasks.storage.store import Location

#: Characters of a hash that the list shows.
SHORT = 8
#: Figures in the list, with the headings of their columns.
LISTED = {
    "mAP50, viable": "mAP50\nviable",
    "mAP50, non-viable": "mAP50\nnon-viable",
    "count error": "count\nerror",
    "viability error": "viability\nerror",
}


def print_list(root: str | None, block: str | None, *, verbose: bool = False) -> int:
    """Print all models; return the exit code."""
    return _done(lambda: _print_list(list_models(_place(root, block))), verbose=verbose)


def print_one(name: str, root: str | None, block: str | None, *, verbose: bool = False) -> int:
    """Print one model; return the exit code."""
    return _done(lambda: _print_model(show_model(_place(root, block), name)), verbose=verbose)


def order_promotion(
    version: str, root: str | None, block: str | None, *, note: str, verbose: bool = False
) -> int:
    """Put a model into production; return the exit code."""
    return _done(
        lambda: say(promote(_place(root, block), version, Order.now(note)).message),
        verbose=verbose,
    )


def order_rollback(
    to: str | None, root: str | None, block: str | None, *, note: str, verbose: bool = False
) -> int:
    """Go back to an earlier model; return the exit code."""
    return _done(
        lambda: say(rollback(_place(root, block), Order.now(note), to).message), verbose=verbose
    )


def _done(work: Callable[[], None], *, verbose: bool) -> int:
    """Do the work, or print why it can't be done; return the exit code."""
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
    """Return the place of the registry.

    Raises:
        PollenError: If no place is named, or the block can't be read.
    """
    if block is not None and get_current_settings().api.url is None:
        raise PollenError(
            "--block names a block on a Prefect server, and no server is set: set PREFECT_API_URL, or leave out --block"
        )
    if root is not None:
        return Location.parse(root, block)
    if block is None:
        raise PollenError(
            "no place is given: name the folder or s3://bucket/prefix that holds trained_models/ with --root, or a "
            "saved block with --block"
        )
    return Location(block=block)


def _print_list(models: Sequence[ListedModel]) -> None:
    if not models:
        say("No model is published here; runs on this machine use the bundled model.")
        return
    table = Table(title="Models", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("version", overflow="fold", min_width=18)
    table.add_column("state", no_wrap=True)
    for heading in LISTED.values():
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("sha256", no_wrap=True)
    for model in models:
        sha256 = model.card.sha256[:SHORT] if model.card else "-"
        # Shorter, so that the table fits a terminal of 80 columns.
        figures = (text.replace("points", "pts") for text in _figures(model.metrics).values())
        table.add_row(Text(model.version), _state(model), *figures, sha256)
    OUT.print(table)
    for model in models:
        if model.problem:
            say(f"{model.version}: {model.problem}")
    if not any(model.in_production for model in models):
        say("None of them is in production; runs on this machine use the bundled model.")


def _state(model: ListedModel) -> Text:
    if model.in_production:
        return Text("production", "bold green")
    return Text("unusable" if model.problem else "published")


def _figures(metrics: Metrics | None) -> dict[str, str]:
    """Return the figures of the list by name; a dash for those that are not known."""
    if metrics is None:
        return dict.fromkeys(LISTED, "-")
    values = {row.name: row.new for row in wording.rows(metrics.new, None)}
    return {name: values[name] for name in LISTED}


def _print_model(model: ModelDetails) -> None:
    table = Table(title=f"Model {model.card.version}", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("in production", "yes" if model.in_production else "no")
    if model.metrics is not None:
        table.add_row("measured on", model.metrics.split)
        for name, value in _figures(model.metrics).items():
            table.add_row(name, value)
        if model.metrics.gate is not None:
            for reason in model.metrics.gate.reasons:
                table.add_row("gate", Text(reason))
    if model.lost:
        table.add_row("not promoted", Text(model.lost))
    for name, value in _facts(model.card):
        table.add_row(name, value)
    for number, made in model.promotions.items():
        at = made.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if made.at else ""
        text = ", ".join(part for part in (made.kind, at, made.by, made.note) if part)
        table.add_row(f"promotion {number}", Text(text))
    table.add_row("more in", Text(model.address))
    OUT.print(table)


def _facts(card: ModelCard) -> Iterator[tuple[str, str]]:
    """Yield the facts of a card in words; unknown ones are left out."""
    for name, value in card.model_dump(mode="json", exclude={"version", "metrics"}).items():
        if value is not None:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield name.replace("_", " "), text
