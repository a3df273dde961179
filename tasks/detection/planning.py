"""Planning: which pictures are to be counted, by one listing of the inputs and one pass over the records."""

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
from tasks.storage.objects import join_key
from tasks.storage.store import Location, Store, open_store


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    Attributes:
        inputs: All inputs that exist; columns of `pollen.results.records.INPUTS`.
        batches: Inputs that wait to be counted.
        waiting: Number of inputs in the batches.
    """

    inputs: pl.DataFrame
    batches: tuple[Batch, ...]
    waiting: int


@stage("check access")
def check_access(source: Location, output: Location) -> None:
    """Fail early and clearly if the source is missing or can't be reached."""
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

    If pictures are to be annotated, those whose annotated picture is missing are counted again,
    because drawing needs the outlines from the model.

    Args:
        source: The place of the pictures.
        output: The root of records and annotated pictures.
        records: Folder of the records of this model and these settings.
        settings: The settings of the run.
        shards: Number of runs that share the work; there are batches for all of them if possible.
        among: Only these inputs, in these versions; None: all.
    """
    store = open_store(output)
    inputs, left_out = _listed(source, output)
    if left_out:
        logger().warning(
            "%d pictures are left out, because earlier runs wrote them: they are next to a folder %s",
            left_out,
            RESULTS,
        )
    known = read_image_records(store, records)
    waiting = waiting_inputs(inputs, known)
    if settings.annotate:
        undrawn = undrawn_inputs(inputs, known, _drawn(store, known))
        undrawn = undrawn.join(waiting, on="key", how="anti")
        if undrawn.height:
            logger().info(
                "%d pictures are counted again, because their annotated pictures are missing",
                undrawn.height,
            )
        waiting = pl.concat([waiting, undrawn])
    if among is not None:
        waiting = waiting.join(among, on=["key", "version"], how="semi")
    batches = tuple(cut_for(waiting, settings.batch_images, shards))
    logger().info(
        "%d pictures, %d to count in %d batches", inputs.height, waiting.height, len(batches)
    )
    return Plan(inputs, batches, waiting.height)


def _drawn(store: Store, known: pl.DataFrame) -> Iterator[str]:
    """Yield the keys of the annotated pictures that exist, and of those that can never exist."""
    yield from (entry.key for entry in store.list(ANNOTATED))
    undrawable = known.filter(pl.col("flags").str.contains(UNDRAWN_FLAG, literal=True))
    yield from map(annotated_key, undrawable["filename"])


@stage("compact records")
def compact_records(output: Location, records: str) -> int:
    """Merge small record files if there are many; return how many files were removed."""
    return compact(open_store(output), records)


def list_inputs(source: Location, output: Location) -> pl.DataFrame:
    """Return the pictures below the source, as they are now; columns of `pollen.results.records.INPUTS`.

    Pictures that runs wrote are left out, whether to this output or to another one.
    """
    return _listed(source, output)[0]


def _listed(source: Location, output: Location) -> tuple[pl.DataFrame, int]:
    """Return the pictures below the source, and the number of those left out as results of another output."""
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
    """Return a test for keys below one of the folders, each of which ends with `/`."""
    none = pl.lit(value=False)
    return pl.any_horizontal(none, *(pl.col("key").str.starts_with(each) for each in folders))


def results_within(source: Location, output: Location) -> Callable[[str], bool]:
    """Return a test for keys of the source that earlier runs wrote, if the output is inside the source."""
    if source.folder is not None and output.folder is not None:
        return _written_folders(source.folder, output.folder)
    outer, inner = join_key(source.prefix), join_key(output.prefix)
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
    """Return the same test for folders of this machine, with links resolved."""
    written = [(output / folder).resolve() for folder in WRITTEN]

    @cache
    def is_written(folder: str) -> bool:
        real = (source / folder).resolve()
        return any(real.is_relative_to(each) for each in written)

    return lambda key: is_written(key.rpartition("/")[0])
