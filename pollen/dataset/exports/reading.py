"""Reading an export whole: every picture and label checked, nothing kept of the pixels."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from pollen.dataset.exports.layouts import Layout, PictureEntry, find_layout
from pollen.dataset.exports.outline_sizes import Sizes
from pollen.dataset.exports.trees import Tree, TreeError
from pollen.dataset.findings import DatasetFinding, Severity, has_error, in_order
from pollen.dataset.labels import LABEL_NAMES, Labels, read_labels, write_labels
from pollen.dataset.manifest import GrainCounts, Source, Split
from pollen.dataset.pictures import PictureFacts, examine
from pollen.dataset.settings import DatasetSettings, MissingLabels, Unsure
from pollen.frames import FrameError

#: Findings of one kind that are kept of one export's pictures and labels.
MOST_KEPT: Final = 2000


@dataclass(frozen=True)
class ExportImage:
    """A labelled picture of an export.

    Attributes:
        entry: Name in the export.
        split: The split its folder names, which only a curated dataset means.
        facts: About the picture.
        label_sha256: Of its label as this project writes it, see `read_label`.
        grains: Labelled grains by class.
        boxes_only: Whether there are grains and all are boxes.
        label_entry: Name of the label file in the export; empty if there is none.
        label_file_sha256: Of that file as it came; empty if there is none.
    """

    entry: str
    split: Split | None
    facts: PictureFacts
    label_sha256: str
    grains: GrainCounts
    boxes_only: bool = False
    label_entry: str = ""
    label_file_sha256: str = ""


@dataclass(frozen=True)
class Rejected:
    """A picture of an export that can't be used, and why."""

    entry: str
    sha256: str
    reason: str


@dataclass(frozen=True)
class Export:
    """A folder or zip that was read whole.

    Attributes:
        tree: Where its files are.
        form: The labelling tool's form, in words.
        images: The pictures without fault, by entry.
        rejected: The others.
        names: Class names by number, as the export gives them; empty if nobody can tell.
        findings: Everything that was noticed, the gravest first.
        first_name: What the same bytes were called when they were merged first; empty: as now.
    """

    tree: Tree
    form: str
    images: tuple[ExportImage, ...]
    rejected: tuple[Rejected, ...]
    names: Mapping[int, str]
    findings: tuple[DatasetFinding, ...]
    first_name: str = ""

    @property
    def name(self) -> str:
        """The name in findings."""
        return self.tree.name

    @property
    def source(self) -> Source:
        """The source in manifests."""
        return Source(name=self.first_name or self.tree.name, sha256=self.tree.sha256)

    @property
    def is_usable(self) -> bool:
        """Return whether it may be merged: an export with an error is refused whole."""
        return not has_error(self.findings)


def read_export(
    tree: Tree,
    settings: DatasetSettings,
    *,
    known: Mapping[str, PictureFacts] | None = None,
    default_names: Mapping[int, str] | None = None,
) -> Export:
    """Read and check every picture and label of an export; faults become findings.

    Pictures and labels are read one at a time, and only facts are kept.

    Args:
        tree: The open folder or zip.
        settings: How to take unsure grains and missing labels; limits.
        known: Facts about pictures by the SHA-256 of their file: these are not decoded again.
        default_names: Class names where no file gives them.

    Raises:
        TreeError: If the disk fails, which says nothing about the export.
    """
    if has_error(tree.findings):
        return Export(tree, "unknown", (), (), {}, in_order(tree.findings))
    images, rejected = [], []
    try:
        layout = find_layout(tree, default_names)
        reading = _ExportReader(tree, settings, layout, known or {}, Sizes(tree.name))
        for pair in layout.pairs if layout.names else ():
            taken = reading.take(pair)
            if isinstance(taken, ExportImage):
                images.append(taken)
            else:
                rejected.append(taken)
    except OSError as error:
        raise TreeError(_lost(tree, error)) from error
    disputed = tuple(reading.disputed())
    found = (*reading.findings, *reading.not_listed(), *reading.sizes.findings())
    findings = in_order([*tree.findings, *layout.findings, *disputed, *found])
    names = {} if disputed else layout.names
    return Export(tree, layout.form, tuple(images), tuple(rejected), names, findings)


def _lost(tree: Tree, error: OSError) -> str:
    return f"{tree.name} can't be read to its end ({error}): check the disk, and start again"


def read_picture(tree: Tree, entry: str, sha256_expected: str, settings: DatasetSettings) -> bytes:
    """Return the bytes of a picture that was read before.

    Raises:
        TreeError: If it can't be read, or it changed since.
    """
    try:
        data = tree.read(entry, _picture_bytes(settings))
    except OSError as error:
        raise TreeError(_lost(tree, error)) from error
    if sha256(data).hexdigest() != sha256_expected:
        raise TreeError(f"{tree.name}/{entry} changed while it was merged: start the merge again")
    return data


def read_label(export: Export, entry: str, sha256_expected: str, settings: DatasetSettings) -> str:
    """Return the label of a picture that was read before, as this project writes it.

    Args:
        export: Where it is; still open.
        entry: Name of the label file.
        sha256_expected: Of the text that is returned.
        settings: Limits.

    Raises:
        TreeError: If it can't be read, or it changed since.
    """
    try:
        data = export.tree.read(entry, _label_bytes(settings))
    except OSError as error:
        raise TreeError(_lost(export.tree, error)) from error
    text = _as_written(read_labels(data.decode("utf-8-sig", "replace"), export.names, entry))
    if sha256(text.encode()).hexdigest() != sha256_expected:
        raise TreeError(f"{export.name}/{entry} changed while it was merged: start the merge again")
    return text


def _as_written(labels: Labels) -> str:
    return write_labels(labels.grains)


@dataclass
class _ExportReader:
    """An export under way."""

    tree: Tree
    settings: DatasetSettings
    layout: Layout
    known: Mapping[str, PictureFacts]
    sizes: Sizes
    findings: list[DatasetFinding] = field(default_factory=list)
    _found: Counter[Severity] = field(default_factory=Counter)
    _label_bytes: int = 0
    _used: set[str] = field(default_factory=set)

    def disputed(self) -> Iterable[DatasetFinding]:
        """Return the errors of classes that labels use and that files of class names number in two ways."""
        for name, findings in self.layout.disputed.items():
            if name in self._used:
                yield from findings

    def not_listed(self) -> Iterable[DatasetFinding]:
        """Return one finding for each kind of which not all are listed, with their number."""
        for severity, times in self._found.items():
            if times > MOST_KEPT:
                message = (
                    f"{times - MOST_KEPT} more findings of this kind ({severity}) are not listed"
                )
                yield DatasetFinding(severity, self.tree.name, None, message)

    def _tell(self, *findings: DatasetFinding) -> None:
        for found in findings:
            self._found[found.severity] += 1
            if self._found[found.severity] <= MOST_KEPT:
                self.findings.append(found)

    def take(self, pair: PictureEntry) -> ExportImage | Rejected:
        """Read one picture and its label; all its faults are noted, not only the first."""
        labels, fault, label_sha256 = self._labels(pair)
        fault = pair.fault or fault
        file = f"{self.tree.name}/{pair.image}"
        digest = ""
        try:
            data = self.tree.read(pair.image, _picture_bytes(self.settings))
            digest = sha256(data).hexdigest()
            facts = self.known.get(digest) or self._examine(data, pair.image)
        except (TreeError, FrameError) as error:
            self._tell(DatasetFinding.error(file, str(error)))
            return Rejected(pair.image, digest, str(error))
        label_file = f"{self.tree.name}/{pair.label}"
        self.sizes.add(label_file, labels, facts.width_px, facts.height_px)
        if fault:
            return Rejected(pair.image, digest, fault)
        return ExportImage(
            entry=pair.image,
            split=pair.split,
            facts=facts,
            label_sha256=sha256(_as_written(labels).encode()).hexdigest(),
            grains=GrainCounts.of(labels.grains),
            boxes_only=bool(labels.grains) and all(grain.is_box for grain in labels.grains),
            label_entry=pair.label or "",
            label_file_sha256=label_sha256,
        )

    def _examine(self, data: bytes, name: str) -> PictureFacts:
        return examine(data, name, round(self.settings.limits.picture_megapixels * 1e6))

    def _labels(self, pair: PictureEntry) -> tuple[Labels, str, str]:
        """Return the picture's labels, why they can't be used (empty: they can), and the file's SHA-256."""
        if pair.label is None:
            return Labels(), self._missing(pair.image), ""
        file = f"{self.tree.name}/{pair.label}"
        try:
            data = self._label_data(pair.label)
            text = data.decode("utf-8-sig")
        except (TreeError, UnicodeDecodeError) as error:
            reason = str(error)
            if isinstance(error, UnicodeDecodeError):
                reason = f"expected text in UTF-8 ({error}): export again"
            self._tell(DatasetFinding.error(file, reason))
            return Labels(), f"its label can't be read: {reason}", ""
        labels = read_labels(text, self.layout.names, file)
        self._used |= {LABEL_NAMES[grain.number] for grain in labels.grains}
        self._tell(*labels.findings)
        faulty = [found for found in labels.findings if has_error([found])]
        fault = self._unsure(labels, file)
        if faulty:
            fault = f"line {faulty[0].line} of its label: {faulty[0].message}"
        return labels, fault, sha256(data).hexdigest()

    def _label_data(self, entry: str) -> bytes:
        """Return a label file's bytes.

        Raises:
            TreeError: If it is too large, or all of a zip's together are.
        """
        most = self.settings.limits.labels_megabytes
        # A folder's owner is trusted, and the dataset itself may be of any size.
        if self.tree.sha256 and self._label_bytes > most * 1e6:
            raise TreeError(
                f"the zip's label files together are larger than {most:g} MB unpacked, far more than outlines need: "
                "stage the pictures in several zips, or raise limits.labels_megabytes"
            )
        data = self.tree.read(entry, _label_bytes(self.settings))
        self._label_bytes += len(data)
        return data

    def _missing(self, image: str) -> str:
        """Return the reason against a picture without label file, by the settings; empty if there is none."""
        file = f"{self.tree.name}/{image}"
        if self.settings.missing_labels is MissingLabels.EMPTY:
            self._tell(DatasetFinding.note(file, "has no label file: taken as without grains"))
            return ""
        reason = "has no label file"
        message = (
            f"{reason} and is left out. If it shows no grain, give it an empty label file (in Roboflow "
            "'mark null'), or set missing_labels to 'empty'"
        )
        self._tell(DatasetFinding.warning(file, message))
        return reason

    def _unsure(self, labels: Labels, file: str) -> str:
        """Return the reason against a picture with unsure grains, by the settings; empty if there is none."""
        lines = [
            line
            for line, grain in zip(labels.lines, labels.grains, strict=True)
            if grain.grain_class is None
        ]
        if not lines or self.settings.unsure is Unsure.COVER:
            return ""
        reason = f"{len(lines)} of its grains are labelled 'unsure'"
        message = (
            f"{reason}, and the picture is left out. Decide their class, or set unsure to 'cover'"
        )
        self._tell(DatasetFinding.warning(file, message, lines[0]))
        return reason


def _label_bytes(settings: DatasetSettings) -> int:
    return round(settings.limits.label_megabytes * 1e6)


def _picture_bytes(settings: DatasetSettings) -> int:
    return round(settings.limits.picture_megabytes * 1e6)
