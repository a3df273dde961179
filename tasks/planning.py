"""Deciding what is to be counted: one listing of the inputs, one pass over the records."""

from dataclasses import dataclass

import polars as pl

from pollen.frames import is_image
from pollen.layout import ANNOTATED, WRITTEN
from pollen.planning import Batch, cut_batches, is_hidden
from pollen.results import INPUTS, undrawn_inputs, waiting_inputs
from pollen.settings import DetectSettings
from tasks.entries import joined
from tasks.faults import PollenError
from tasks.records import compact, read_image_records
from tasks.stage import logger, stage
from tasks.storage import Location, open_store


@dataclass(frozen=True)
class Plan:
    """What a run is to do.

    Attributes:
        inputs: All inputs that are there; columns of :data:`pollen.results.INPUTS`.
        batches: Those that wait to be counted.
        waiting: How many those are.
    """

    inputs: pl.DataFrame
    batches: tuple[Batch, ...]
    waiting: int


@stage("check access")
def check_access(source: Location, output: Location) -> None:
    """Fail early and clearly where the source is missing or out of reach."""
    open_store(source).check()
    if output.folder is None:
        open_store(output).check()
    elif output.folder.exists() and not output.folder.is_dir():
        raise PollenError(f"the output {output.folder} is a file: name a folder")


@stage("plan")
def plan(source: Location, output: Location, records: str, settings: DetectSettings) -> Plan:
    """Find the inputs that have no record yet for this model and these settings.

    Where pictures are to be annotated, those whose annotated picture is missing wait too: drawing
    needs the outlines that only the model knows.
    """
    store = open_store(output)
    inputs, known = list_inputs(source, output), read_image_records(store, records)
    waiting = waiting_inputs(inputs, known)
    if settings.annotate:
        drawn = (entry.key for entry in store.list(ANNOTATED))
        undrawn = undrawn_inputs(inputs, known, drawn).join(waiting, on="key", how="anti")
        if undrawn.height:
            logger().info("%d pictures are counted again, to be drawn", undrawn.height)
        waiting = pl.concat([waiting, undrawn])
    batches = tuple(cut_batches(waiting, settings.batch_images))
    logger().info(
        "%d pictures, %d to count in %d batches", inputs.height, waiting.height, len(batches)
    )
    return Plan(inputs, batches, waiting.height)


@stage("compact records")
def compact_records(output: Location, records: str) -> int:
    """Merge small record files where there are many."""
    return compact(open_store(output), records)


def list_inputs(source: Location, output: Location) -> pl.DataFrame:
    """The pictures below the source, as they are now; columns of :data:`pollen.results.INPUTS`."""
    written = written_below(source, output)
    entries = [
        (entry.key, entry.version, entry.size)
        for entry in open_store(source).list()
        if is_image(entry.key) and not is_hidden(entry.key) and not entry.key.startswith(written)
    ]
    return pl.DataFrame(entries, schema=INPUTS, orient="row")


def written_below(source: Location, output: Location) -> tuple[str, ...]:
    """Prefixes of keys that earlier runs wrote into the source, where the output lies inside it."""
    if source.folder is not None and output.folder is not None:
        outer, inner = source.folder.resolve(), output.folder.resolve()
        if not inner.is_relative_to(outer):
            return ()
        below = inner.relative_to(outer).as_posix().removeprefix(".")
    elif (source.bucket, source.block) == (output.bucket, output.block):
        outer_prefix, inner_prefix = joined(source.prefix), joined(output.prefix)
        if outer_prefix and not f"{inner_prefix}/".startswith(f"{outer_prefix}/"):
            return ()
        below = inner_prefix.removeprefix(outer_prefix).strip("/")
    else:
        return ()
    return tuple(f"{below}/{folder}" if below else folder for folder in WRITTEN)
