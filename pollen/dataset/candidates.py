"""The pictures that take part in a merge: those of the dataset, and those of exports that it does not have."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from pollen.dataset.exports.reading import Export, ExportImage
from pollen.dataset.findings import DatasetFinding
from pollen.dataset.manifest import CURATED, Manifest, Source, Split


@dataclass(frozen=True)
class Candidate:
    """A picture on its way into the manifest.

    Attributes:
        image: What is known of it.
        export: Where its file is: an export, or the dataset.
        source: Where it came from.
        original: The file name it came with; the dataset may have given it another one.
        key: Where it lies in the dataset; empty for a new one.
        split: Where it is already; None for a new one.
    """

    image: ExportImage
    export: Export
    source: Source
    original: str
    key: str = ""
    split: Split | None = None

    @property
    def id(self) -> str:
        """Unique; the hash first, so that an order by it says nothing about names."""
        return f"{self.image.facts.sha256}:{self.key or f'{self.export.name}/{self.image.entry}'}"

    @property
    def file(self) -> str:
        """The name in findings."""
        return f"{self.export.name}/{self.image.entry}"

    def has_labels_of(self, other: "Candidate") -> bool:
        """Return whether the two are labelled the same."""
        return self.image.label_sha256 == other.image.label_sha256


@dataclass
class Gathered:
    """The pictures that take part in a merge.

    Attributes:
        candidates: The dataset's pictures, then the new ones; those of exports show something else each.
        twins: Pictures of exports that show the same as a candidate, pixel by pixel, by its id.
        findings: What was noticed.
    """

    candidates: list[Candidate]
    twins: dict[str, list[Candidate]] = field(default_factory=dict)
    findings: list[DatasetFinding] = field(default_factory=list)


def gather(curated: Export, exports: Iterable[Export], latest: Manifest | None) -> Gathered:
    """Find the pictures that take part.

    Args:
        curated: The dataset as it is.
        exports: In the order in which the first of equal pictures counts.
        latest: Says where the dataset's pictures came from.
    """
    gathered = Gathered([])
    by_pixels: dict[str, int] = {}
    for one in _old(curated, latest, gathered):
        _add_old(one, by_pixels, gathered)
    for export in exports:
        for image in export.images:
            one = Candidate(image, export, export.source, file_name(image.entry))
            _add_new(one, by_pixels, gathered, latest)
    return gathered


def file_name(name: str) -> str:
    """Return a name without its folders."""
    return PurePosixPath(name).name


def _old(curated: Export, latest: Manifest | None, gathered: Gathered) -> list[Candidate]:
    """Return the pictures of the dataset, and note those of the manifest that are missing."""
    known = latest.by_key if latest else {}
    old = []
    for image in curated.images:
        before = known.get(image.entry)
        source = before.source if before else Source()
        original = (before.original if before else "") or file_name(image.entry)
        old.append(Candidate(image, curated, source, original, image.entry, image.split))
    for key in sorted(known.keys() - {one.key for one in old}):
        message = "was in the dataset, but is missing or can't be used any more: the new version leaves it out"
        gathered.findings.append(DatasetFinding.warning(f"{curated.name}/{key}", message))
    return old


def _add_old(one: Candidate, by_pixels: dict[str, int], gathered: Gathered) -> None:
    """Add a picture of the dataset; one that it has twice is noted and kept."""
    place = by_pixels.setdefault(one.image.facts.pixels_sha256, len(gathered.candidates))
    gathered.candidates.append(one)
    twin = gathered.candidates[place]
    if twin is not one:
        labels = "the same labels" if one.has_labels_of(twin) else "other labels"
        message = f"shows the same as {twin.file}, with {labels}: delete one of the two"
        gathered.findings.append(DatasetFinding.warning(one.file, message))


def _add_new(
    one: Candidate, by_pixels: dict[str, int], gathered: Gathered, latest: Manifest | None
) -> None:
    """Add a picture of an export, or note whose twin it is."""
    place = by_pixels.setdefault(one.image.facts.pixels_sha256, len(gathered.candidates))
    if place == len(gathered.candidates):
        gathered.candidates.append(one)
        return
    twin = gathered.candidates[place]
    gathered.twins.setdefault(twin.id, []).append(one)
    in_manifest = latest is not None and twin.key in latest.by_key
    if twin.source.name == CURATED and not in_manifest and one.has_labels_of(twin):
        # Left by a merge that broke off: the export is where it came from.
        came = replace(twin, source=one.source, original=one.original)
        gathered.candidates[place] = came
