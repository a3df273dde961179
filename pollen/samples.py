"""Samples: which pictures belong together, and the viability of each such group."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import polars as pl

from pollen.stats import Interval, clustered_viability
from pollen.tables import Status

#: Label of the pictures that lie in no folder and whose names say nothing.
NO_FOLDER = "(no folder)"

#: What separates several flags in one cell.
FLAG_SEPARATOR = "; "
ONE_PICTURE = "only one picture with grains"
NO_GRAIN = "no grain counted"

SAMPLE_COLUMNS = pl.Schema(
    {
        "sample": pl.String(),
        "plant": pl.String(),
        "ploidy": pl.String(),
        "replicate": pl.String(),
        "images": pl.Int64(),
        "failed_images": pl.Int64(),
        "viable": pl.Int64(),
        "non_viable": pl.Int64(),
        "viability": pl.Float64(),
        "viability_low": pl.Float64(),
        "viability_high": pl.Float64(),
        "interval_method": pl.String(),
        "flags": pl.String(),
    }
)

_PARTS = ("plant", "ploidy", "replicate")


@dataclass(frozen=True, order=True)
class Sample:
    """What a picture belongs to.

    Attributes:
        label: What tables call it: the parts found in the file name joined by ``_``, or the
            folder with ``/`` at its end, or :data:`NO_FOLDER`.
        plant: As in the file name; empty where the name says nothing.
        ploidy: Written one way: ``s4X`` and ``S4x`` are both ``S4x``; ``4x`` is another group.
        replicate: As in the file name.
    """

    label: str
    plant: str = ""
    ploidy: str = ""
    replicate: str = ""


def sample_of(filename: str, pattern: str) -> Sample:
    """The sample a picture belongs to.

    Args:
        filename: Path below the source, as in the tables.
        pattern: Regular expression with at least one of the named groups plant, ploidy and
            replicate; searched in the name without its folder.

    Raises:
        ValueError: The pattern is not usable.
    """
    folder, _, name = filename.rpartition("/")
    found = _compiled(pattern).search(name)
    parts = {part: text or "" for part, text in found.groupdict().items()} if found else {}
    plant, ploidy, replicate = (parts.get(part, "") for part in _PARTS)
    ploidy = _one_spelling(ploidy)
    label = "_".join(part for part in (plant, ploidy, replicate) if part)
    return Sample(label or (f"{folder}/" if folder else NO_FOLDER), plant, ploidy, replicate)


def summarise_samples(counts: pl.DataFrame, pattern: str) -> pl.DataFrame:
    """Viability per sample, with intervals that take the picture as the unit.

    Deleted inputs are left out; failed pictures are only numbered. Fractions have 4 decimals.

    Args:
        counts: The rows of ``pollen_counts.csv``.
        pattern: See :func:`sample_of`.

    Returns:
        One row per sample, columns :data:`SAMPLE_COLUMNS`, sorted by sample; ``viability`` and its
        bounds are empty where no grain was counted.

    Raises:
        ValueError: The pattern is not usable.
    """
    _compiled(pattern)
    present = counts.filter(pl.col("input_present")).sort("filename")
    groups: dict[Sample, list[int]] = {}
    for number, filename in enumerate(present["filename"]):
        groups.setdefault(sample_of(filename, pattern), []).append(number)
    rows = [_summary(sample, present[groups[sample]]) for sample in sorted(groups)]
    return pl.DataFrame(rows, schema=SAMPLE_COLUMNS, orient="row")


def overall_viability(counts: pl.DataFrame) -> Interval | None:
    """Viability of all pictures together that are present and counted, the picture as the unit.

    Args:
        counts: The rows of ``pollen_counts.csv``.

    Returns:
        ``None`` where no grain was counted.
    """
    counted = counts.filter(pl.col("input_present") & (pl.col("status") != str(Status.FAILED)))
    viable, non_viable = (
        counted[name].cast(pl.Int64).fill_null(0).to_numpy() for name in ("viable", "non_viable")
    )
    return clustered_viability(viable, non_viable)


def _summary(sample: Sample, pictures: pl.DataFrame) -> dict[str, object]:
    """One row of the sample table."""
    counted = pictures.filter(pl.col("status") != str(Status.FAILED))
    viable = counted["viable"].cast(pl.Int64).fill_null(0)
    non_viable = counted["non_viable"].cast(pl.Int64).fill_null(0)
    interval = clustered_viability(viable.to_numpy(), non_viable.to_numpy())
    row: dict[str, object] = {
        "sample": sample.label,
        "plant": sample.plant,
        "ploidy": sample.ploidy,
        "replicate": sample.replicate,
        "images": counted.height,
        "failed_images": pictures.height - counted.height,
        "viable": int(viable.sum()),
        "non_viable": int(non_viable.sum()),
        "interval_method": "",
        "flags": FLAG_SEPARATOR.join(_flags(counted, int((viable + non_viable > 0).sum()))),
    }
    if interval:
        row |= {
            "viability": round(interval.estimate, 4),
            "viability_low": round(interval.low, 4),
            "viability_high": round(interval.high, 4),
            "interval_method": str(interval.method),
        }
    return row


def _flags(counted: pl.DataFrame, with_grains: int) -> list[str]:
    """What a reader must know: of the sample, then of its pictures, with their number."""
    own = [NO_GRAIN] if with_grains == 0 else [ONE_PICTURE] if with_grains == 1 else []
    of_pictures = Counter(
        flag
        for cell in counted["flags"].fill_null("")
        for flag in cell.split(FLAG_SEPARATOR)
        if flag
    )
    return own + [
        f"{flag} ({number} of {counted.height})" for flag, number in sorted(of_pictures.items())
    ]


def _one_spelling(ploidy: str) -> str:
    """``s4X`` as ``S4x``; what does not look like a ploidy stays as it is."""
    if re.fullmatch(r"[sS]?\d+[xX]", ploidy) is None:
        return ploidy
    return ploidy.upper().replace("X", "x")


@lru_cache(maxsize=8)
def _compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, checked."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"sample_pattern is not a regular expression: {error} in '{pattern}'; correct it, or "
            "leave the setting at its default"
        ) from error
    if not set(_PARTS) & set(compiled.groupindex):
        raise ValueError(
            f"sample_pattern '{pattern}' names no part of a sample: at least one of the groups "
            "(?P<plant>...), (?P<ploidy>...) and (?P<replicate>...) was expected"
        )
    return compiled
