"""Merging exports into a dataset: a pure decision, written down as a manifest and a list of files to write.

Nothing that exists is ever overwritten or moved. Merging again what was merged changes nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pollen.dataset.candidates import Candidate, file_name, gather
from pollen.dataset.duplicates import Copies, Look
from pollen.dataset.exports.reading import Export, read_picture
from pollen.dataset.families import about_plants, family_of, group_of, tells_plant
from pollen.dataset.findings import DatasetFinding, in_order
from pollen.dataset.manifest import (
    CURATED,
    Changes,
    LeftOut,
    Manifest,
    ManifestImage,
    Source,
    Split,
    compare,
    image_key,
    label_key,
)
from pollen.dataset.naming import Names
from pollen.dataset.pictures import decode
from pollen.dataset.settings import DatasetSettings
from pollen.dataset.splitting import Placing, Tied, place

# Reasons stand in the manifest, and must be the same when the same export is merged again.
_RELABELLED: Final = "the same picture was merged before, with other labels"
_LEAK: Final = "pictures of its plant or copies of it are in several splits"


@dataclass(frozen=True)
class Write:
    """A file to write below the dataset's folder.

    Attributes:
        key: Where to.
        sha256: Of the bytes.
        export: Name of the export it is read from.
        entry: Its name there; empty: an empty label, which is no file there.
        is_label: Whether it is a label, which is written in this project's form.
    """

    key: str
    sha256: str
    export: str
    entry: str
    is_label: bool = False


@dataclass(frozen=True)
class Merge:
    """The decisions of a merge.

    Attributes:
        manifest: The dataset after it.
        is_new: Whether that differs from the latest manifest; if not, there is nothing to publish.
        writes: Files to write before the manifest is published, in this order: a label comes before
            its picture, so that a merge that breaks off leaves no picture without label.
        changes: Against the latest manifest.
        findings: What was noticed while merging; what reading noticed stands in the exports.
        copies: Pairs of pictures that show the same, of which one is new: their keys, or
            `export/entry` of one that is left out. Of many that show the same, each is in one pair
            at least, not in one with each other.
    """

    manifest: Manifest
    is_new: bool
    writes: tuple[Write, ...]
    changes: Changes
    findings: tuple[DatasetFinding, ...]
    copies: tuple[tuple[str, str], ...] = ()


def merge(
    curated: Export,
    exports: Iterable[Export],
    settings: DatasetSettings,
    latest: Manifest | None = None,
    number: int | None = None,
) -> Merge:
    """Decide what the dataset is after merging exports.

    The trees of all of them must still be open: pictures that look alike are read again.

    Args:
        curated: The dataset as it is, see `pollen.dataset.exports.dataset_folder.read_dataset_folder`.
        exports: Usable exports, in any order, each with its own name.
        settings: Shares and rules.
        latest: The latest manifest, whose pictures keep their split.
        number: Its number.

    Raises:
        ValueError: If an export has errors, or two have the same name.
        TreeError: If a picture changed while it was merged.
    """
    merging = _Merging(curated, _as_first_named(_checked(exports), latest), settings, latest)
    merging.run()
    # What an export had in no order may have come again, in order.
    included = {image.sha256 for image in merging.images}
    left_out = [
        one
        for one in merging.left_out
        if one.source.name == CURATED or one.reason == _RELABELLED or one.sha256 not in included
    ]
    manifest = Manifest(
        parent=number,
        settings=_recorded(settings),
        images=tuple(merging.images),
        left_out=tuple(left_out),
    )
    is_new = manifest.content_id != latest.content_id if latest else bool(manifest.images)
    return Merge(
        manifest=latest if latest and not is_new else manifest,
        is_new=is_new,
        writes=tuple(merging.writes),
        changes=compare(latest, manifest),
        findings=in_order(merging.findings),
        copies=tuple(merging.copies),
    )


def _checked(exports: Iterable[Export]) -> list[Export]:
    """Return the exports by name, which must be usable.

    Raises:
        ValueError: See `merge`.
    """
    in_turn = sorted(exports, key=lambda export: export.name)
    for name, times in Counter(export.name for export in in_turn).items():
        if times > 1:
            raise ValueError(f"two exports are called {name}: give each its own name")
    for export in in_turn:
        if not export.is_usable:
            raise ValueError(f"{export.name} has errors and can't be merged: correct it first")
    return in_turn


def _as_first_named(exports: Iterable[Export], latest: Manifest | None) -> list[Export]:
    """Return the exports, each under the first name that its bytes had: `a (1).zip` is `a.zip` downloaded again."""
    names: dict[str, str] = {}
    for source in sorted(latest.sources, key=str) if latest else ():
        names.setdefault(source.sha256, source.name)
    return [
        replace(export, first_name=names.setdefault(export.tree.sha256, export.name))
        if export.tree.sha256
        else export
        for export in exports
    ]


def _recorded(settings: DatasetSettings) -> dict[str, Any]:
    """Return the settings that decide what a dataset is, as a manifest records them."""
    return settings.model_dump(mode="json", exclude={"limits"})


class _Merging:
    """One merge under way."""

    def __init__(
        self,
        curated: Export,
        exports: list[Export],
        settings: DatasetSettings,
        latest: Manifest | None,
    ) -> None:
        self.images: list[ManifestImage] = []
        self.left_out: list[LeftOut] = []
        self.writes: list[Write] = []
        self.findings: list[DatasetFinding] = []
        self.copies: list[tuple[str, str]] = []
        self._curated = curated
        self._settings = settings
        self._latest = latest
        self._known = Counter[str]()
        earlier = latest.left_out if latest else ()
        # Of the dataset's own pictures it is found anew each time; of exports it is a record.
        self.left_out += [one for one in earlier if one.source.name != CURATED]
        self._leave_out_rejected(curated, Source())
        for export in exports:
            self._leave_out_rejected(export, export.source)
        self._exports = [self._undecided(export) for export in exports]

    def run(self) -> None:
        """Find what takes part, where it belongs, and what it is called."""
        gathered = gather(self._curated, self._exports, self._latest)
        candidates = gathered.candidates
        self.findings += [*gathered.findings, *self._about_plants(candidates)]
        copies = self._copies(candidates)
        placing = self._place(candidates, copies)
        names = Names(map(file_name, self._occupied()))
        called: dict[str, str] = {}  # in the candidates' order
        for candidate in candidates:
            split = placing.splits.get(candidate.id)
            twins = gathered.twins.get(candidate.id, [])
            if split is None:
                for one in (candidate, *twins):
                    self._note_leak(one, placing.leaks[candidate.id])
                called[candidate.id] = candidate.file
            else:
                called[candidate.id] = self._take(candidate, split, names)
                for one in twins:
                    self._note_twin(one, candidate)
        order = {one: place for place, one in enumerate(called)}
        pairs = (sorted(pair, key=order.__getitem__) for pair in copies.pairs)
        self.copies = sorted((called[one], called[other]) for one, other in pairs)
        for export, times in sorted(self._known.items()):
            message = f"{times} of its pictures are in the dataset already, with the same labels"
            self.findings.append(DatasetFinding.note(export, message))

    def _undecided(self, export: Export) -> Export:
        """Return the export without the pictures that were left out when it was merged before.

        Merged again, alone or with fewer others than then, it would else be decided anew.
        """
        if not self._latest or self._latest.settings != _recorded(self._settings):
            return export
        decided = {
            (one.name, one.sha256): one.reason
            for one in self._latest.left_out
            if one.source == export.source and one.reason in (_LEAK, _RELABELLED)
        }
        images = []
        for image in export.images:
            reason = decided.get((image.entry, image.facts.sha256))
            if reason is None:
                images.append(image)
            else:
                message = f"is left out, as when this export was merged before: {reason}"
                file = f"{export.name}/{image.entry}"
                self.findings.append(DatasetFinding.warning(file, message))
        return replace(export, images=tuple(images))

    def _leave_out_rejected(self, export: Export, source: Source) -> None:
        """Record the pictures that reading refused."""
        for one in export.rejected:
            self._leave_out(one.entry, one.sha256, one.reason, source)

    def _leave_out(self, entry: str, digest: str, reason: str, source: Source) -> None:
        self.left_out.append(
            LeftOut(name=entry, sha256=digest, reason=reason, source=source),
        )

    def _note_twin(self, one: Candidate, taken: Candidate) -> None:
        """Note a picture that is in the dataset already, with the same labels or with others."""
        if one.has_labels_of(taken):
            self._known[one.export.name] += 1
            return
        message = (
            f"shows the same as {taken.file}, with other labels: {taken.file} is kept. If the new "
            "labels are better, replace its label"
        )
        self.findings.append(DatasetFinding.warning(one.file, message))
        self._leave_out(one.image.entry, one.image.facts.sha256, _RELABELLED, one.source)

    def _place(self, candidates: Sequence[Candidate], copies: Copies) -> Placing:
        """Tie what belongs together, and find each picture's split."""
        settled = self._latest.by_key.keys() if self._latest else ()
        tied = [
            Tied(one.id, self._ties_by_name(one), one.split, one.key in settled)
            for one in candidates
        ]
        return place(tied, self._settings.shares, copies.of)

    def _ties_by_name(self, candidate: Candidate) -> tuple[str, ...]:
        """Return the ties of a picture to others: by its name, and by equal pixels."""
        group = group_of(candidate.original, self._settings.sample_pattern)
        return (
            f"group:{group.casefold()}",  # Windows and people write a plant both ways
            f"family:{family_of(candidate.original)}",
            f"pixels:{candidate.image.facts.pixels_sha256}",
        )

    def _about_plants(self, candidates: Iterable[Candidate]) -> Iterator[DatasetFinding]:
        """Say of each export how many of its pictures nothing keeps together with their plant."""
        names: dict[str, list[str]] = {}
        for one in candidates:
            names.setdefault(one.export.name, []).append(one.original)
        for export, originals in names.items():
            pattern = self._settings.sample_pattern
            unnamed = sorted(name for name in originals if not tells_plant(name, pattern))
            if unnamed:
                yield DatasetFinding.warning(export, about_plants(unnamed, len(originals)))

    def _copies(self, candidates: Sequence[Candidate]) -> Copies:
        """Prepare the search for near-duplicates; of each pair at least one is new to the manifest."""
        by_id = {one.id: one for one in candidates}

        def look(one: str) -> Look:
            image = by_id[one].image
            facts, entry = image.facts, image.entry
            data = read_picture(by_id[one].export.tree, entry, facts.sha256, self._settings)
            return Look.of(decode(data, entry, facts.width_px * facts.height_px))

        turned = {one: candidate.image.facts.turned for one, candidate in by_id.items()}
        return Copies(
            {one: candidate.image.facts.look for one, candidate in by_id.items()},
            {one: eight for one, eight in turned.items() if eight},
            look,
        )

    def _occupied(self) -> list[str]:
        """Return every picture of the dataset, used or not: its name is taken."""
        return [name for name in self._curated.tree.names if "/images/" in name]

    def _note_leak(self, candidate: Candidate, splits: tuple[Split, ...]) -> None:
        """Say why a picture is left out: it would carry knowledge from one split to another."""
        message = (
            f"is left out: {_LEAK} ({', '.join(splits)}). A model would be judged on what it was "
            "trained on"
        )
        self.findings.append(DatasetFinding.warning(candidate.file, message))
        self._leave_out(
            candidate.image.entry, candidate.image.facts.sha256, _LEAK, candidate.source
        )

    def _take(self, candidate: Candidate, split: Split, names: Names) -> str:
        """Take a picture into the manifest, note what must be written for it, and give its key."""
        image, facts = candidate.image, candidate.image.facts
        key = candidate.key or image_key(split, names.new(image.entry, facts.sha256))
        export = candidate.export.name
        if not image.label_file_sha256 or not candidate.key:
            label = Write(label_key(key), image.label_sha256, export, image.label_entry, True)
            self.writes.append(label)
        if not candidate.key:
            self.writes.append(Write(key, facts.sha256, export, image.entry))
        self.images.append(
            ManifestImage(
                key=key,
                split=split,
                original=candidate.original,
                sha256=facts.sha256,
                label_sha256=(candidate.key and image.label_file_sha256) or image.label_sha256,
                pixels_sha256=facts.pixels_sha256,
                look=facts.look,
                width_px=facts.width_px,
                height_px=facts.height_px,
                group=group_of(candidate.original, self._settings.sample_pattern),
                family=family_of(candidate.original),
                grains=image.grains,
                boxes_only=image.boxes_only,
                source=candidate.source,
            )
        )
        return key
