"""The report of a dataset: one self-contained HTML page, and a short Markdown summary.

Made of the manifest, the version before and what was found, without clock time, so equal datasets
give equal bytes. File names come from strangers' exports: everything is escaped.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from pollen.classes import GrainClass
from pollen.dataset.contact_sheet import UNSURE_COLOUR, SheetPicture, ThumbnailOf
from pollen.dataset.families import about_plants, one_spelling, tells_plant
from pollen.dataset.findings import DatasetFinding, Severity, in_order
from pollen.dataset.manifest import (
    Changes,
    GrainCounts,
    LeftOut,
    Manifest,
    ManifestImage,
    Split,
    compare,
)
from pollen.dataset.settings import DatasetSettings
from pollen.reports.legend import CLASS_COLOURS, Colour, shorten_middle
from pollen.reports.pages import environment, markdown
from pollen.statistics.intervals import percent

#: Longer lists are cut, with a note where the whole one is: the page must stay usable.
MOST_FINDINGS: Final = 200
MOST_REASONS: Final = 200
MOST_GROUPS: Final = 300
MOST_NAMES: Final = 12
MOST_SIZES: Final = 15
MOST_LETTERS: Final = 40
MOST_PAIRS: Final = 12
MOST_IN_SUMMARY: Final = 15

#: The list of all findings, beside the page.
FINDINGS_TABLE: Final = "findings.csv"

_PAIR_PX: Final = 200


@dataclass(frozen=True)
class Pair:
    """Two pictures that show the same, with a small picture of each where it is at hand."""

    names: tuple[str, str]
    jpegs: tuple[bytes | None, bytes | None] = (None, None)


@dataclass(frozen=True)
class DatasetReport:
    """The content of the report.

    Attributes:
        name: Name of the dataset.
        number: Number of this version.
        manifest: This version.
        parent: The version before; None for the first.
        findings: What was noticed while reading and merging.
        pairs: Pictures that show the same.
        pairs_total: How many there are; more than `pairs` where only some are shown.
        sheet: The contact sheet.
        code_version: Version of this program.
    """

    name: str
    number: int
    manifest: Manifest
    parent: Manifest | None = None
    findings: tuple[DatasetFinding, ...] = ()
    pairs: tuple[Pair, ...] = ()
    pairs_total: int = 0
    sheet: tuple[SheetPicture, ...] = ()
    code_version: str = ""

    @cached_property
    def changes(self) -> Changes:
        """Against the version before."""
        return compare(self.parent, self.manifest)

    @cached_property
    def leaks(self) -> tuple["Leak", ...]:
        """Plants, families and pictures that are in several splits."""
        return find_leaks(self.manifest)

    @cached_property
    def unknown_plants(self) -> tuple[str, ...]:
        """File names that tell no plant."""
        pattern = self.manifest.settings.get("sample_pattern", DatasetSettings().sample_pattern)
        names = (image.original or image.name for image in self.manifest.images)
        return tuple(sorted(name for name in names if not tells_plant(name, pattern)))

    @property
    def kept_apart(self) -> str:
        """One sentence on how far the splits are apart, if nothing is in several of them."""
        if not self.unknown_plants:
            return "No plant, and no copy of a picture, is in two splits."
        known = about_plants(self.unknown_plants, len(self.manifest.images))
        return f"No copy of a picture is in two splits. For plants this is not certain: {known}."

    def count(self, severity: Severity) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


@dataclass(frozen=True)
class Leak:
    """Pictures that belong together and are in several splits.

    Attributes:
        what: What they share, in words.
        value: Which plant, family or hash.
        splits: Where they are.
    """

    what: str
    value: str
    splits: tuple[Split, ...]


def find_leaks(manifest: Manifest) -> tuple[Leak, ...]:
    """Look at the finished manifest for what merging must have kept apart.

    A check of the result, independent of how it came about.
    """
    shared: dict[str, Callable[[ManifestImage], str]] = {
        "the plant": lambda image: image.group.casefold(),
        "copies of": lambda image: image.family,
        "equal pixels": lambda image: image.pixels_sha256[:16],
    }
    leaks = []
    for what, value_of in shared.items():
        splits: dict[str, set[Split]] = {}
        for image in manifest.images:
            splits.setdefault(value_of(image), set()).add(image.split)
        leaks += [
            Leak(what, value, tuple(split for split in Split if split in found))
            for value, found in sorted(splits.items())
            if len(found) > 1
        ]
    return tuple(leaks)


def show_pairs(names: Sequence[tuple[str, str]], thumbnail_of: ThumbnailOf) -> tuple[Pair, ...]:
    """Return small pictures of the first pairs of pictures that show the same.

    Args:
        names: Key in the dataset, or `export.zip/path`, of both.
        thumbnail_of: Called for the pictures that are shown only.
    """
    return tuple(
        Pair((first, second), (thumbnail_of(first, _PAIR_PX), thumbnail_of(second, _PAIR_PX)))
        for first, second in names[:MOST_PAIRS]
    )


def render_dataset_report(report: DatasetReport) -> str:
    """Return the report as one HTML page without scripts or outside resources."""
    manifest = report.manifest
    findings = in_order(report.findings)
    groups = _groups(manifest)
    sizes = _sizes(manifest)
    page = environment({"colour": _css_colour, "short": _short}).get_template("dataset.html.j2")
    return page.render(
        report=report,
        manifest=manifest,
        grains=manifest.grains(),
        splits=[_part(str(split), manifest.split(split)) for split in Split],
        whole=_part("all", manifest.images),
        groups=groups[:MOST_GROUPS],
        groups_total=len(groups),
        sizes=sizes[:MOST_SIZES],
        sizes_rest=sum(row["pictures"] for row in sizes[MOST_SIZES:]),
        sources=_sources(manifest.images),
        left_out=_left_out(manifest.left_out)[:MOST_REASONS],
        reasons_total=len({one.reason for one in manifest.left_out}),
        findings=findings[:MOST_FINDINGS],
        findings_table=FINDINGS_TABLE,
        changes=[
            (word, keys[:MOST_NAMES], len(keys)) for word, keys in _changed(report.changes) if keys
        ],
        colours=_colours(),
        most_names=MOST_NAMES,
        settings=[(key, _words(value)) for key, value in sorted(manifest.settings.items())],
    )


def findings_csv(findings: Sequence[DatasetFinding]) -> bytes:
    """Return all findings as a table: UTF-8, LF, the most serious first."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["severity", "file", "line", "message"])
    for found in in_order(findings):
        line = "" if found.line is None else found.line
        table.writerow([found.severity, _plain_cell(found.file), line, _plain_cell(found.message)])
    return text.getvalue().encode()


def markdown_summary(report: DatasetReport) -> str:
    """Return the dataset in short, for a Prefect artifact."""
    parts = [_headline(report), _split_table(report.manifest), _leak_lines(report)]
    parts += [_finding_lines(report), _change_lines(report)]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _plain_cell(text: str) -> str:
    """Return a cell that no spreadsheet program takes for a formula."""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") and text else text


def _part(name: str, images: Sequence[ManifestImage]) -> dict[str, Any]:
    """Return the figures of some pictures."""
    grains = sum((image.grains for image in images), GrainCounts())
    known = grains.viable + grains.non_viable
    return {
        "name": name,
        "pictures": len(images),
        "empty": sum(image.grains.total == 0 for image in images),
        "groups": len({image.group.casefold() for image in images}),
        "grains": grains,
        "share": grains.viable / known if known else None,
    }


def _groups(manifest: Manifest) -> list[dict[str, Any]]:
    spelling = one_spelling(image.group for image in manifest.images)
    by_group: dict[str, list[ManifestImage]] = {}
    for image in manifest.images:
        by_group.setdefault(spelling[image.group], []).append(image)
    return [
        _part(group, images) | {"splits": sorted({str(image.split) for image in images})}
        for group, images in sorted(by_group.items())
    ]


def _sizes(manifest: Manifest) -> list[dict[str, Any]]:
    """Return picture sizes, the most frequent first."""
    counts = Counter((image.width_px, image.height_px) for image in manifest.images)
    return [
        {"width_px": width, "height_px": height, "pictures": pictures}
        for (width, height), pictures in sorted(
            counts.items(), key=lambda item: (-item[1], item[0])
        )
    ]


def _sources(images: Sequence[ManifestImage]) -> list[dict[str, Any]]:
    by_source: dict[str, list[ManifestImage]] = {}
    for image in images:
        by_source.setdefault(image.source.name, []).append(image)
    return [_part(name, found) for name, found in sorted(by_source.items())]


def _left_out(left_out: Sequence[LeftOut]) -> list[dict[str, Any]]:
    """Return reasons with their pictures, the most frequent first."""
    by_reason: dict[str, list[str]] = {}
    for one in left_out:
        by_reason.setdefault(one.reason, []).append(one.name)
    reasons = sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        {"reason": reason, "names": sorted(names)[:MOST_NAMES], "total": len(names)}
        for reason, names in reasons
    ]


def _changed(changes: Changes) -> list[tuple[str, tuple[str, ...]]]:
    return [
        ("added", changes.added),
        ("changed (picture or label)", changes.changed),
        ("removed", changes.removed),
    ]


def _colours() -> list[tuple[str, Colour]]:
    return [
        ("stained viable", CLASS_COLOURS[GrainClass.VIABLE]),
        ("non-viable", CLASS_COLOURS[GrainClass.NON_VIABLE]),
        ("unsure", UNSURE_COLOUR),
    ]


def _words(value: object) -> str:
    """Return a setting as a person reads it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    return str(value)


def _css_colour(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _short(name: str) -> str:
    """Return a file name, cut in the middle if it is too long for a caption."""
    return shorten_middle(name, lambda text: len(text) <= MOST_LETTERS)


def _headline(report: DatasetReport) -> list[str]:
    grains = report.manifest.grains()
    unsure = f", {grains.unsure:,} unsure" if grains.unsure else ""
    return [
        f"Dataset {markdown(report.name)}, version **{report.number}**: "
        f"**{len(report.manifest.images):,}** pictures of "
        f"{len({image.group.casefold() for image in report.manifest.images}):,} plants or groups, "
        f"**{grains.total:,}** labelled grains ({grains.viable:,} viable, "
        f"{grains.non_viable:,} non-viable{unsure}); {len(report.manifest.left_out):,} pictures left out."
    ]


def _split_table(manifest: Manifest) -> list[str]:
    rows = [_part(str(split), manifest.split(split)) for split in Split]
    return [
        "| split | pictures | without grains | plants | viable | non-viable | stained viable |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(
            f"| {row['name']} | {row['pictures']:,} | {row['empty']:,} | {row['groups']:,} "
            f"| {row['grains'].viable:,} | {row['grains'].non_viable:,} "
            f"| {'' if row['share'] is None else percent(row['share'])} |"
            for row in rows
        ),
    ]


def _leak_lines(report: DatasetReport) -> list[str]:
    if not report.leaks:
        return [markdown(report.kept_apart)]
    return [
        f"### In several splits ({len(report.leaks):,})",
        "",
        *(
            f"* {leak.what} {markdown(leak.value)}: {', '.join(leak.splits)}"
            for leak in report.leaks[:MOST_IN_SUMMARY]
        ),
        *_more(len(report.leaks)),
    ]


def _finding_lines(report: DatasetReport) -> list[str]:
    findings = [one for one in in_order(report.findings) if one.severity is not Severity.NOTE]
    if not findings:
        return []
    errors, warnings = report.count(Severity.ERROR), report.count(Severity.WARNING)
    return [
        f"### Errors ({errors:,}) and warnings ({warnings:,})",
        "",
        "| where | what |",
        "|---|---|",
        *(
            f"| {markdown(found.where)} | {markdown(found.message)} |"
            for found in findings[:MOST_IN_SUMMARY]
        ),
        *_more(len(findings)),
    ]


def _more(total: int) -> list[str]:
    rest = total - MOST_IN_SUMMARY
    return ["", f"… and {rest:,} more in `{FINDINGS_TABLE}`."] if rest > 0 else []


def _change_lines(report: DatasetReport) -> list[str]:
    words = [f"{len(keys):,} {word}" for word, keys in _changed(report.changes) if keys]
    if report.parent is None:
        return ["The first version of this dataset."]
    return [f"Since the previous version: {'; '.join(words) or 'the pictures are the same'}."]
