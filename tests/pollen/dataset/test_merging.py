"""Merging: nothing leaks, nothing moves, nothing is lost without a word."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pollen.dataset.exports.dataset_folder import DatasetFolderError, read_dataset_folder
from pollen.dataset.exports.reading import Export, read_label, read_picture
from pollen.dataset.findings import DatasetFinding, Severity
from pollen.dataset.manifest import (
    Changes,
    GrainCounts,
    Manifest,
    ManifestError,
    ManifestImage,
    Split,
    label_key,
)
from pollen.dataset.merging import Merge, merge
from pollen.dataset.settings import DatasetSettings
from tests.pollen.dataset.making import (
    NON_VIABLE,
    SETTINGS,
    VIABLE,
    MemoryTree,
    encoded,
    picture,
    pixels,
    read,
    roboflow,
)

DATASET = "datasets/pollen"


@dataclass
class Dataset:
    """A dataset on its way through merges, as the store holds it."""

    files: dict[str, bytes] = field(default_factory=dict)
    manifests: list[Manifest] = field(default_factory=list)
    settings: DatasetSettings = SETTINGS

    @property
    def latest(self) -> Manifest:
        return self.manifests[-1]

    def curated(self) -> Export:
        latest = self.manifests[-1] if self.manifests else None
        return read_dataset_folder(MemoryTree(DATASET, self.files), self.settings, latest)

    def decide(self, exports: Iterable[Export]) -> Merge:
        """What a merge would do."""
        latest = self.manifests[-1] if self.manifests else None
        number = len(self.manifests) or None
        return merge(self.curated(), exports, self.settings, latest, number)

    def write(self, merged: Merge, exports: Sequence[Export], first: int | None = None) -> None:
        """Write the files of a merge, or the first few of them."""
        named = {export.name: export for export in exports}
        for one in merged.writes[:first]:
            assert one.key not in self.files, "an existing file was overwritten"
            data = b""
            if one.is_label and one.entry:
                text = read_label(named[one.export], one.entry, one.sha256, SETTINGS)
                data = text.encode()
            elif not one.is_label:
                data = read_picture(named[one.export].tree, one.entry, one.sha256, SETTINGS)
            assert sha256(data).hexdigest() == one.sha256
            self.files[one.key] = data

    def merge(self, *exports: Export) -> Merge:
        """Decide and write."""
        merged = self.decide(exports)
        self.write(merged, exports)
        if merged.is_new:
            self.manifests.append(merged.manifest)
        for image in self.latest.images if self.manifests else ():
            assert sha256(self.files[image.key]).hexdigest() == image.sha256
            assert sha256(self.files[image.label_key]).hexdigest() == image.label_sha256
        return merged


def told(merged: Merge) -> list[DatasetFinding]:
    """What was found, apart from names that do not name a plant, which these tests use for short."""
    return [found for found in merged.findings if "do not name a plant" not in found.message]


def splits(manifest: Manifest) -> dict[str, Split]:
    return {image.sha256: image.split for image in manifest.images}


def export(name: str, pictures: Mapping[str, int], **labels: str) -> Export:
    """An export of pictures by name and seed."""
    texts = {picture_name: labels.get(picture_name[0], VIABLE) for picture_name in pictures}
    return read(roboflow({one: picture(seed) for one, seed in pictures.items()}, texts), name)


def test_the_first_merge_writes_labels_before_their_pictures() -> None:
    dataset = Dataset()
    one = export("a.zip", {"x.png": 1, "y.png": 2})
    merged = dataset.merge(one)
    assert merged.is_new
    manifest = merged.manifest
    assert manifest.parent is None
    assert [image.name for image in manifest.images] == ["x.png", "y.png"]
    for image in manifest.images:
        assert image.source.name == "a.zip"
        assert image.source.sha256 == one.tree.sha256
        assert (image.width_px, image.height_px) == (64, 64)
        assert image.grains == GrainCounts(viable=1)
    keys = [write.key for write in merged.writes]
    assert keys == [key for image in manifest.images for key in (image.label_key, image.key)]
    assert merged.changes == Changes(added=tuple(sorted(image.key for image in manifest.images)))


def test_merging_the_same_again_changes_nothing() -> None:
    dataset = Dataset()
    one = export("a.zip", {"x.png": 1, "y.png": 2})
    dataset.merge(one)
    again = dataset.merge(one)
    assert not again.is_new
    assert again.writes == ()
    assert again.manifest is dataset.manifests[0]
    (note,) = told(again)
    assert "2 of its pictures are in the dataset already" in note.message


def test_the_same_pixels_in_another_file_are_the_same_picture() -> None:
    dataset = Dataset()
    dataset.merge(export("a.zip", {"x.png": 1}))
    same = read(roboflow({"other.tif": encoded(pixels(1), ".tif")}), "b.zip")
    merged = dataset.merge(same)
    assert not merged.is_new


def test_other_labels_for_a_known_picture_are_reported_not_taken() -> None:
    dataset = Dataset()
    dataset.merge(export("a.zip", {"x.png": 1}))
    merged = dataset.merge(export("b.zip", {"x.png": 1}, x=NON_VIABLE))
    assert merged.is_new
    assert merged.manifest.images == dataset.manifests[0].images
    (left_out,) = merged.manifest.left_out
    assert (left_out.name, left_out.source.name) == ("train/images/x.png", "b.zip")
    (warning,) = told(merged)
    assert warning.severity is Severity.WARNING
    assert "datasets/pollen/train/images/x.png" in warning.message
    assert not dataset.merge(export("b.zip", {"x.png": 1}, x=NON_VIABLE)).is_new


def test_twins_of_a_picture_that_leaks_are_left_out_each() -> None:
    files = curated_files({"train/images/1-1-A_2x_A_1.png": 1, "val/images/2-2-B_2x_A_1.png": 2})
    dataset = Dataset(files)
    dataset.merge()
    turned = {"1-1-A_2x_C_7.png": encoded(np.ascontiguousarray(pixels(2)[::-1]))}
    other = roboflow(turned) | {"README.roboflow.txt": b"exported once more"}
    dataset.merge(read(roboflow(turned), "b.zip"), read(other, "c.zip"))
    assert [one.source.name for one in dataset.latest.left_out] == ["b.zip", "c.zip"]
    assert not dataset.merge(read(other, "c.zip")).is_new


def test_the_same_zip_under_another_name_is_the_same_zip() -> None:
    """Downloaded again as ``a (1).zip``: what was left out of it is not left out a second time."""
    dataset = Dataset(curated_files({"train/images/1-1-A_2x_A_1.png": 1}))
    dataset.merge()
    pictures = {"1-1-A_2x_B_1.png": 1, "x.png": 2, "y.png": 3}
    files = roboflow(
        {name: picture(seed) for name, seed in pictures.items()},
        {"1-1-A_2x_B_1.png": NON_VIABLE, "x.png": VIABLE},
    )
    dataset.merge(read(files, "a.zip"))
    assert {one.reason for one in dataset.latest.left_out} == {
        "the same picture was merged before, with other labels",
        "has no label file",
    }
    assert not dataset.merge(read(files, "a (1).zip")).is_new
    assert not dataset.merge(read(files, "a (1).zip"), read(files, "a.zip")).is_new
    at_once = Dataset()
    at_once.merge(read(files, "b.zip"), read(files, "a.zip"))
    assert [source.name for source in at_once.latest.sources] == ["a.zip"]


def test_a_plant_written_in_two_ways_is_one_plant() -> None:
    files = curated_files({"val/images/1-3-f_S4x_A_1.png": 1, "train/images/5-5-B_2x_A_1.png": 2})
    dataset = Dataset(files)
    dataset.merge()
    dataset.merge(export("a.zip", {"1-3-F_S4x_B_2.png": 3, "5-5-b_2x_B_2.png": 4}))
    assert {image.name: (image.split, image.group) for image in dataset.latest.images} == {
        "1-3-f_S4x_A_1.png": (Split.VAL, "1-3-f_S4x"),
        "1-3-F_S4x_B_2.png": (Split.VAL, "1-3-F_S4x"),
        "5-5-B_2x_A_1.png": (Split.TRAIN, "5-5-B_2x"),
        "5-5-b_2x_B_2.png": (Split.TRAIN, "5-5-b_2x"),
    }


def test_what_was_left_out_stays_so_until_it_comes_in_another_export() -> None:
    dataset = Dataset(curated_files({"train/images/1-1-A_2x_A_1.png": 1}))
    dataset.merge()
    copy = {"2-2-B_2x_A_1.png": 3}
    first = export("b.zip", {"1-1-A_2x_A_2.png": 1}, **{"1": NON_VIABLE})
    dataset.merge(first)
    count = len(dataset.manifests)
    again = dataset.merge(first)
    assert len(dataset.manifests) == count
    assert "as when this export was merged before" in again.findings[0].message
    del (
        dataset.files["train/images/1-1-A_2x_A_1.png"],
        dataset.files["train/labels/1-1-A_2x_A_1.txt"],
    )
    dataset.merge(export("c.zip", {"1-1-A_2x_A_2.png": 1} | copy, **{"1": NON_VIABLE}))
    assert {image.source.name for image in dataset.latest.images} == {"c.zip"}
    assert len(dataset.latest.images) == 2


def test_names_stay_or_get_the_hash_where_another_picture_has_them() -> None:
    dataset = Dataset()
    dataset.merge(export("a.zip", {"x.png": 1}))
    others = {
        "X.jpg": picture(2, ".jpg"),
        "Sn\u00edmek (3)..png": picture(3),
        "..x.png": picture(4),
    }
    dataset.merge(read(roboflow(others), "b.zip"))
    names = {image.name for image in dataset.latest.images}
    digests = {seed: sha256(data).hexdigest()[:8] for seed, data in enumerate(others.values(), 2)}
    assert names == {"x.png", f"X-{digests[2]}.jpg", "Snimek-3.png", f"x-{digests[4]}.png"}


def test_rejected_pictures_are_recorded_until_they_come_in_order() -> None:
    dataset = Dataset()
    unlabelled = read(roboflow({"x.png": picture(1), "y.png": picture(2)}, {"y.png": VIABLE}))
    dataset.merge(unlabelled)
    (left_out,) = dataset.latest.left_out
    assert left_out.reason == "has no label file"
    assert not dataset.merge(unlabelled).is_new
    dataset.merge(export("b.zip", {"x.png": 1}))
    assert len(dataset.latest.images) == 2
    assert dataset.latest.left_out == ()
    assert not dataset.merge(unlabelled).is_new


def test_exports_with_errors_or_equal_names_are_not_merged() -> None:
    faulty = export("a.zip", {"x.png": 1}, x="0 1")
    with pytest.raises(ValueError, match=r"a\.zip has errors"):
        Dataset().decide([faulty])
    good = export("a.zip", {"x.png": 1})
    with pytest.raises(ValueError, match=r"two exports are called a\.zip"):
        Dataset().decide([good, good])


def curated_files(places: Mapping[str, int], text: str = VIABLE) -> dict[str, bytes]:
    files = {key: picture(seed) for key, seed in places.items()}
    return files | {label_key(key): text.encode() for key in places}


def test_a_curated_dataset_keeps_its_split_and_leaks_are_left_out() -> None:
    files = curated_files(
        {
            "train/images/1-1-A_2x_A_1.png": 1,
            "val/images/1-1-A_2x_B_2.png": 2,  # the same plant as in train
            "val/images/2-2-B_2x_A_1.png": 3,
            "test/images/2-2-B_s2X_A_1.png": 4,  # another ploidy, another plant
            "test/images/copy.png": 5,
            "train/images/original.png": 5,  # the same pixels
        }
    )
    files["test/images/turned.png"] = encoded(np.ascontiguousarray(pixels(1)[::-1]))
    files["test/labels/turned.txt"] = b""
    dataset = Dataset(files)
    merged = dataset.merge()
    assert {image.key for image in merged.manifest.images} == {
        "train/images/1-1-A_2x_A_1.png",
        "train/images/original.png",
        "val/images/2-2-B_2x_A_1.png",
        "test/images/2-2-B_s2X_A_1.png",
    }
    assert {one.name for one in merged.manifest.left_out} == {
        "val/images/1-1-A_2x_B_2.png",
        "test/images/copy.png",
        "test/images/turned.png",
    }
    assert len([one for one in merged.findings if "is left out" in one.message]) == 3
    assert merged.writes == ()
    assert not dataset.merge().is_new


def test_a_picture_that_the_dataset_has_twice_is_noted_and_stays() -> None:
    files = curated_files({"train/images/a.png": 1, "train/images/b.png": 1})
    merged = Dataset(files).decide([])
    assert len(merged.manifest.images) == 2
    (warning,) = told(merged)
    assert warning.file == f"{DATASET}/train/images/b.png"
    assert "with the same labels" in warning.message
    files["train/labels/b.txt"] = NON_VIABLE.encode()
    (warning,) = told(Dataset(files).decide([]))
    assert "with other labels" in warning.message


def test_a_new_picture_goes_where_its_plant_or_its_copy_is() -> None:
    files = curated_files({"train/images/1-1-A_2x_A_1.png": 1, "val/images/2-2-B_2x_A_1.png": 2})
    dataset = Dataset(files)
    dataset.merge()
    turned = {"new.png": encoded(np.ascontiguousarray(np.rot90(pixels(2))))}
    both = {"1-1-A_2x_C_7.png": encoded(np.ascontiguousarray(pixels(2)[:, ::-1]))}
    plant = {"1-1-A_2x_B_9.png": picture(3)}
    merged = dataset.merge(read(roboflow(turned | plant | both), "b.zip"))
    by_name = {image.name: image.split for image in merged.manifest.images}
    assert by_name["new.png"] is Split.VAL
    assert by_name["1-1-A_2x_B_9.png"] is Split.TRAIN
    (leak,) = told(merged)
    assert leak.file == "b.zip/train/images/1-1-A_2x_C_7.png"
    assert "(train, val)" in leak.message


def test_names_that_tell_no_plant_are_told_of_each_export() -> None:
    dataset = Dataset(curated_files({"train/images/1-1-A_2x_A_1.png": 1}))
    first = dataset.merge(export("a.zip", {"2-1-A_2x_A_1.png": 2, "b.png": 3, "a.png": 4}))
    (warning,) = first.findings
    assert (warning.severity, warning.file) == (Severity.WARNING, "a.zip")
    assert warning.message.startswith("2 of 3 file names do not name a plant, for example a.png:")
    assert "merging.sample_pattern" in warning.message
    (still,) = dataset.merge().findings
    assert (still.file, still.message[:6]) == (DATASET, "2 of 4")
    dataset.settings = DatasetSettings(sample_pattern=r"(?P<plant>[^_.]+)")
    assert dataset.merge().findings == ()


def test_a_picture_put_into_train_by_hand_does_not_push_out_what_is_in_the_manifest() -> None:
    dataset = Dataset(curated_files({"val/images/1-1-A_2x_A_1.png": 1}))
    dataset.merge()
    dataset.files |= curated_files({"train/images/1-1-A_2x_B_2.png": 2, "train/images/x.png": 3})
    dataset.merge()
    assert {image.key for image in dataset.latest.images} == {
        "val/images/1-1-A_2x_A_1.png",
        "train/images/x.png",
    }


def test_pictures_that_are_gone_leave_the_manifest_with_a_warning() -> None:
    dataset = Dataset()
    dataset.merge(export("a.zip", {"x.png": 1, "y.png": 2}))
    gone = dataset.latest.images[0].key
    del dataset.files[gone]
    merged = dataset.merge()
    assert merged.changes.removed == (gone,)
    assert [one.file for one in told(merged)] == [f"{DATASET}/{gone}"]


def test_a_corrected_label_is_taken_and_nothing_moves() -> None:
    dataset = Dataset()
    dataset.merge(export("a.zip", {"x.png": 1, "y.png": 2}))
    image = dataset.latest.images[0]
    dataset.files[image.label_key] = NON_VIABLE.encode()
    merged = dataset.merge()
    assert merged.changes == Changes(changed=(image.key,))
    assert merged.manifest.by_key[image.key].grains == GrainCounts(non_viable=1)
    assert merged.manifest.by_key[image.key].source.name == "a.zip"
    assert merged.manifest.parent == 1


def test_missing_curated_labels_are_written_where_they_mean_no_grain() -> None:
    dataset = Dataset({"train/images/x.png": picture(1)})
    assert dataset.merge().manifest.images == ()
    dataset = Dataset(
        {"train/images/x.png": picture(1)},
        settings=DatasetSettings.model_validate({"missing_labels": "empty"}),
    )
    merged = dataset.merge()
    empty = [(one.key, one.is_label, one.entry) for one in merged.writes]
    assert empty == [("train/labels/x.txt", True, "")]
    assert not dataset.merge().is_new


@pytest.mark.parametrize(
    "key", ["valid/images/x.png", "train/images/deep/x.png", "images/train/x.png"]
)
def test_pictures_outside_the_split_folders_are_left_out(key: str) -> None:
    files = curated_files({"train/images/a.png": 1})
    files |= {key: picture(2), key.replace("images", "labels").replace(".png", ".txt"): b""}
    dataset = Dataset(files)
    merged = dataset.merge()
    assert [image.key for image in merged.manifest.images] == ["train/images/a.png"]
    assert [one.name for one in merged.manifest.left_out] == [key]


def test_pictures_that_share_a_label_are_left_out() -> None:
    files = curated_files({"train/images/a.png": 1}) | {"train/images/a.jpg": picture(2, ".jpg")}
    merged = Dataset(files).decide([])
    assert merged.manifest.images == ()
    assert len(merged.manifest.left_out) == 2


def test_a_dataset_with_another_class_order_is_refused() -> None:
    files = curated_files({"train/images/a.png": 1})
    files["data.yaml"] = b"names: [non_viable, viable]"
    with pytest.raises(DatasetFolderError, match="Stage the dataset as a zip instead"):
        Dataset(files).curated()
    files["data.yaml"] = b"names: [viable, non_viable]"
    assert len(Dataset(files).curated().images) == 1
    files["classes.txt"] = b"non_viable\nviable\n"
    with pytest.raises(DatasetFolderError, match=r"classes\.txt: class 0 is 'viable' here"):
        Dataset(files).curated()
    files["classes.txt"] = b"Viable\nNon-viable\n"
    files["data.yaml"] = b"names: {0: Viable, 1: Non-viable}"
    assert len(Dataset(files).curated().images) == 1


@pytest.mark.parametrize("first", range(7))
def test_a_merge_that_broke_off_is_finished_by_the_next(first: int) -> None:
    exports = [export("a.zip", {"x.png": 1, "y.png": 2, "z.png": 3})]
    whole = Dataset()
    whole.merge(*exports)
    broken = Dataset()
    decided = broken.decide(exports)
    broken.write(decided, exports, first)
    if first % 2:  # its label lies there without its picture, and is written again
        del broken.files[decided.writes[first - 1].key]
    merged = broken.merge(*exports)
    assert merged.is_new
    assert {image.sha256 for image in merged.manifest.images} == set(splits(whole.latest))
    assert {image.source.name for image in merged.manifest.images} == {"a.zip"}
    assert not broken.merge(*exports).is_new


plants = st.sampled_from(["1-1-A_2x", "1-1-A_S2x", "2-2-B_4x", "3-3-C_2x", "4-4-D_2x", "holiday"])
names = st.tuples(plants, st.sampled_from("AB"), st.integers(1, 3)).map(
    lambda parts: "{}_{}_{}.png".format(*parts)
)
zips = st.dictionaries(names, st.integers(0, 14), min_size=1, max_size=6)
merges = st.lists(st.lists(zips, min_size=1, max_size=3), min_size=1, max_size=3)
few = hypothesis_settings(max_examples=20)


def as_exports(several: list[dict[str, int]], merge_number: int = 0) -> list[Export]:
    """Exports whose pictures of an odd seed are turned copies of those before."""
    exports = []
    for number, pictures in enumerate(several):
        data = {
            name: picture(seed)
            if seed % 2 == 0
            else encoded(np.ascontiguousarray(pixels(seed - 1)[::-1]))
            for name, seed in pictures.items()
        }
        exports.append(read(roboflow(data), f"{merge_number}-{number}.zip"))
    return exports


@few
@given(merges)
def test_no_plant_family_or_copy_is_ever_in_two_splits(several: list[list[dict[str, int]]]) -> None:
    dataset = Dataset()
    for number, one in enumerate(several):
        dataset.merge(*as_exports(one, number))
        found = defaultdict(set)
        for image in dataset.latest.images:
            for what in (image.group, image.family, min(pixels_of(dataset, image))):
                found[what].add(image.split)
        assert all(len(splits) == 1 for splits in found.values())


def pixels_of(dataset: Dataset, image: ManifestImage) -> list[bytes]:
    """The pixels of a picture, upright and mirrored."""
    seeds = {
        picture(seed): [pixels(seed).tobytes(), pixels(seed)[::-1].tobytes()]
        for seed in range(0, 15, 2)
    }
    turned = {
        encoded(np.ascontiguousarray(pixels(seed)[::-1])): both
        for seed, both in zip(range(0, 15, 2), seeds.values(), strict=True)
    }
    return (seeds | turned)[dataset.files[image.key]]


@few
@given(merges)
def test_old_pictures_never_move_and_merging_again_changes_nothing(
    several: list[list[dict[str, int]]],
) -> None:
    dataset = Dataset()
    before: dict[str, Split] = {}
    for number, one in enumerate(several):
        exports = as_exports(one, number)
        dataset.merge(*exports)
        after = splits(dataset.latest)
        assert before.items() <= after.items()
        before = after
        count = len(dataset.manifests)
        dataset.merge(*exports)
        renamed = [
            read_again(again, f"renamed ({place}).zip") for place, again in enumerate(exports)
        ]
        for again in (*exports, *renamed):
            dataset.merge(again)
        dataset.merge(*exports, *renamed)
        assert len(dataset.manifests) == count


def read_again(one: Export, name: str) -> Export:
    """The same bytes under another name."""
    assert isinstance(one.tree, MemoryTree)
    return read(one.tree.files, name)


@few
@given(st.data(), st.lists(zips, min_size=2, max_size=4))
def test_the_order_of_zips_does_not_matter(
    data: st.DataObject, several: list[dict[str, int]]
) -> None:
    exports = as_exports(several)
    shuffled = data.draw(st.permutations(exports))
    assert Dataset().decide(shuffled) == Dataset().decide(exports)


@few
@given(zips)
def test_every_picture_is_taken_known_or_left_out(pictures: dict[str, int]) -> None:
    (one,) = as_exports([pictures])
    merged = Dataset().decide([one])
    named = {image.pixels_sha256 for image in merged.manifest.images}
    named |= {
        image.facts.pixels_sha256
        for image in one.images
        if image.facts.sha256 in {left.sha256 for left in merged.manifest.left_out}
    }
    assert named == {image.facts.pixels_sha256 for image in one.images}


def test_a_manifest_is_canonical_and_reads_back() -> None:
    dataset = Dataset()
    dataset.merge(export("b.zip", {"y.png": 2, "x.png": 1}, y=VIABLE + NON_VIABLE))
    manifest = dataset.latest
    data = manifest.to_bytes()
    assert Manifest.read(data, "000001.json") == manifest
    assert Manifest.read(data, "000001.json").to_bytes() == data
    assert list(json.loads(data)) == sorted(json.loads(data))
    other = manifest.model_copy(update={"parent": 7})
    assert other.content_id == manifest.content_id
    assert manifest.grains() == GrainCounts(viable=2, non_viable=1)
    per_split = [manifest.grains(split) for split in Split]
    assert sum(per_split, GrainCounts()) == manifest.grains()
    changed = Manifest.model_validate(json.loads(data) | {"images": manifest.images[:1]})
    assert changed.content_id != manifest.content_id


def test_pictures_are_the_same_where_only_the_record_of_them_differs() -> None:
    dataset = Dataset()
    dataset.merge(export("a.zip", {"x.png": 1, "y.png": 2}))
    before = dataset.latest
    dataset.merge(export("b.zip", {"x.png": 1}, x=NON_VIABLE))
    after = dataset.latest
    assert after.left_out
    assert after.content_id != before.content_id
    assert after.pictures_id == before.pictures_id
    others = before.model_dump() | {"settings": {"unsure": "cover"}, "parent": 7}
    assert Manifest.model_validate(others).pictures_id == before.pictures_id
    dataset.files[before.images[0].label_key] = NON_VIABLE.encode()
    dataset.merge()
    assert dataset.latest.pictures_id != before.pictures_id


@pytest.mark.parametrize(
    "change",
    [
        {"key": "test/images/x.png", "split": Split.TEST},
        {"key": "train/images/other.png"},
        {"sha256": "1" * 64},
        {"label_sha256": "1" * 64},
        {"group": "another plant"},
    ],
)
def test_whatever_training_sees_changes_the_id_of_the_pictures(change: dict[str, str]) -> None:
    dataset = Dataset()
    dataset.merge(export("a.zip", {"x.png": 1}))
    (image,) = dataset.latest.images
    changed = dataset.latest.model_copy(update={"images": (image.model_copy(update=change),)})
    assert changed.pictures_id != dataset.latest.pictures_id


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}x",
        b'{"format": 2}',
        b'{"unknown": 1}',
        b'{"images": [{"key": "../../etc/passwd"}]}',
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestError, match=r"000003\.json is not a usable manifest"):
        Manifest.read(data, "000003.json")


def test_a_manifest_never_leads_out_of_its_dataset() -> None:
    dataset = Dataset()
    dataset.merge(export("a.zip", {"x.png": 1}))
    image = dataset.latest.images[0].model_dump()
    for key in ("../x.png", "train/images/../../x.png", "/train/images/x.png", "val/images/x.png"):
        with pytest.raises(ValueError, match="expected a key"):
            ManifestImage.model_validate(image | {"key": key, "split": "train"})
