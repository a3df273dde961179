"""Deciding what is to be counted: one listing of the inputs, one pass over the records."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import polars as pl

from pollen.detection.batches import Batch, cut_for, is_hidden
from pollen.detection.settings import DetectSettings
from pollen.errors import PollenError
from pollen.frames import is_picture
from pollen.layout import ANNOTATED, RESULTS, WRITTEN, annotated_key
from pollen.reports.annotate import UNDRAWN_FLAG
from pollen.results.records import INPUTS, undrawn_inputs, waiting_inputs
from tasks.detection.records import compact, read_image_records
from tasks.stage import logger, stage
from tasks.storage.entries import joined
from tasks.storage.store import Location, Store, open_store


@dataclass(frozen=True)
class Plan:
    """What a run is to do.

    Attributes:
        inputs: All inputs that are there; columns of :data:`pollen.results.records.INPUTS`.
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
def plan(
    source: Location,
    output: Location,
    records: str,
    settings: DetectSettings,
    shards: int = 1,
    among: pl.DataFrame | None = None,
) -> Plan:
    """Find the inputs that have no record yet for this model and these settings.

    Where pictures are to be annotated, those whose annotated picture is missing wait too: drawing
    needs the outlines that only the model knows.

    Args:
        source: Where the pictures are.
        output: The root below which records and drawings are.
        records: Folder of the records of this model and these settings.
        settings: How to count.
        shards: How many runs will share the work; there are batches for all of them if there can be.
        among: Only these inputs, in these versions; None: all.
    """
    store = open_store(output)
    inputs, left_out = _listed(source, output)
    if left_out:
        logger().warning(
            "%d pictures are left out, because earlier runs wrote them: they lie beside a folder %s",
            left_out,
            RESULTS,
        )
    known = read_image_records(store, records)
    waiting = waiting_inputs(inputs, known)
    if settings.annotate:
        undrawn = undrawn_inputs(inputs, known, _drawn(store, known))
        undrawn = undrawn.join(waiting, on="key", how="anti")
        if undrawn.height:
            logger().info("%d pictures are counted again, to be drawn", undrawn.height)
        waiting = pl.concat([waiting, undrawn])
    if among is not None:
        waiting = waiting.join(among, on=["key", "version"], how="semi")
    batches = tuple(cut_for(waiting, settings.batch_images, shards))
    logger().info(
        "%d pictures, %d to count in %d batches", inputs.height, waiting.height, len(batches)
    )
    return Plan(inputs, batches, waiting.height)


def _drawn(store: Store, known: pl.DataFrame) -> Iterator[str]:
    """Keys of the annotated pictures that are there, and of those that never can be."""
    yield from (entry.key for entry in store.list(ANNOTATED))
    undrawable = known.filter(pl.col("flags").str.contains(UNDRAWN_FLAG, literal=True))
    yield from map(annotated_key, undrawable["filename"])


@stage("compact records")
def compact_records(output: Location, records: str) -> int:
    """Merge small record files where there are many."""
    return compact(open_store(output), records)


def list_inputs(source: Location, output: Location) -> pl.DataFrame:
    """The pictures below the source, as they are now; columns of :data:`pollen.results.records.INPUTS`.

    What runs wrote is none of them, be it to this output or to another one.
    """
    return _listed(source, output)[0]


def _listed(source: Location, output: Location) -> tuple[pl.DataFrame, int]:
    """The pictures below the source, and how many are no input because runs with another output wrote them."""
    is_result = results_within(source, output)
    others: set[str] = set()
    entries = []
    for entry in open_store(source).list():
        above, found, _ = f"/{entry.key}".partition(f"/{RESULTS}")
        if found:
            others.add(f"{above}/".removeprefix("/"))
        if is_picture(entry.key) and not is_hidden(entry.key) and not is_result(entry.key):
            entries.append((entry.key, entry.version, entry.size))
    listed = pl.DataFrame(entries, schema=INPUTS, orient="row")
    inputs = listed.filter(~_below(f"{above}{folder}" for above in others for folder in WRITTEN))
    return inputs, listed.height - inputs.height


def _below(folders: Iterable[str]) -> pl.Expr:
    """Whether a key lies below one of the folders, each of which ends with ``/``."""
    none = pl.lit(value=False)
    return pl.any_horizontal(none, *(pl.col("key").str.starts_with(each) for each in folders))


def results_within(source: Location, output: Location) -> Callable[[str], bool]:
    """Whether a key of the source is what earlier runs wrote, where the output lies inside it."""
    if source.folder is not None and output.folder is not None:
        return _written_folders(source.folder, output.folder)
    outer, inner = joined(source.prefix), joined(output.prefix)
    one_place = (source.folder, source.bucket, source.block) == (
        output.folder,
        output.bucket,
        output.block,
    )
    if not one_place or (outer and not f"{inner}/".startswith(f"{outer}/")):
        return lambda _key: False
    below = inner.removeprefix(outer).strip("/")
    written = tuple(f"{below}/{folder}" if below else folder for folder in WRITTEN)
    return lambda key: key.startswith(written)


def _written_folders(source: Path, output: Path) -> Callable[[str], bool]:
    """The same for folders, whichever links lead to them."""
    written = [(output / folder).resolve() for folder in WRITTEN]

    @cache
    def is_written(folder: str) -> bool:
        real = (source / folder).resolve()
        return any(real.is_relative_to(each) for each in written)

    return lambda key: is_written(key.rpartition("/")[0])
