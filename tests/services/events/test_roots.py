"""The root of an uploaded object, and the place of the roots: by the saved block, or else by the site file."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect_aws import AwsCredentials, S3Bucket

from pollen.layout import INPUTS, STAGING
from services.embedded import EmbeddedPrefect
from services.events.notices import Notice
from services.events.roots import SkipReason, Upload, UploadKind, WatchedRoots, classify, roots_in
from services.site import Site
from tasks.detection.planning import list_inputs
from tasks.storage.store import Location, open_store
from tasks.training.dataset import staged_zips

SITE = Site.model_validate({"storage": {"block": "lab"}, "prefixes": ["", "plants", "plants/rye"]})
ROOTS = roots_in(SITE, "bucket", "Ostatni/Pollen")


def meant(key: str, *, bucket: str = "bucket", created: bool = True) -> Upload | SkipReason:
    return classify(ROOTS, Notice(bucket, key, created))


@pytest.mark.parametrize(
    ("key", "prefix", "kind", "below"),
    [
        ("detect_images/a.jpg", "", UploadKind.PICTURES, "detect_images/a.jpg"),
        (
            "detect_images/2026/deep/b.TIFF",
            "",
            UploadKind.PICTURES,
            "detect_images/2026/deep/b.TIFF",
        ),
        ("detect_images/ž +%41.Czi", "", UploadKind.PICTURES, "detect_images/ž +%41.Czi"),
        ("detect_images/../x.png", "", UploadKind.PICTURES, "detect_images/../x.png"),
        ("plants/detect_images/a.png", "plants", UploadKind.PICTURES, "detect_images/a.png"),
        (
            "plants/rye/detect_images/a.png",
            "plants/rye",
            UploadKind.PICTURES,
            "detect_images/a.png",
        ),
        ("staging_area/new.zip", "", UploadKind.EXPORTS, "staging_area/new.zip"),
        (
            "plants/staging_area/anna/new.ZIP",
            "plants",
            UploadKind.EXPORTS,
            "staging_area/anna/new.ZIP",
        ),
    ],
)
def test_what_runs_take_as_input_belongs_to_its_root(
    key: str, prefix: str, kind: UploadKind, below: str
) -> None:
    found = meant(f"Ostatni/Pollen/{key}")
    assert isinstance(found, Upload)
    assert (found.root.prefix, found.kind, found.key) == (prefix, kind, below)


@pytest.mark.parametrize(
    "key",
    [
        "Ostatni/Pollen/detected_images/a.jpg.jpg",
        "Ostatni/Pollen/pollen_counting_results/pollen_counts.csv",
        "Ostatni/Pollen/detect_images/notes.txt",
        "Ostatni/Pollen/detect_images/._a.jpg",
        "Ostatni/Pollen/detect_images/",
        "Ostatni/Pollen/staging_area/archive/old.zip",
        "Ostatni/Pollen/staging_area/photo.jpg",
        "Ostatni/Pollen2/detect_images/a.jpg",
        "ostatni/pollen/detect_images/a.jpg",
        "detect_images/a.jpg",
        "\x1b[2J",
    ],
)
def test_all_else_is_elsewhere(key: str) -> None:
    assert meant(key) is SkipReason.ELSEWHERE


def test_another_bucket_is_foreign_and_a_removal_starts_nothing() -> None:
    key = "Ostatni/Pollen/detect_images/a.jpg"
    assert meant(key, bucket="other") is SkipReason.FOREIGN
    assert meant(key, created=False) is SkipReason.REMOVED


def test_among_nested_roots_the_longest_that_takes_the_upload_has_it() -> None:
    """A root named like a folder of another's pictures takes nothing away from it."""
    site = Site.model_validate({"prefixes": ["", "detect_images"]})
    roots = roots_in(site, "bucket", "")
    outer = classify(roots, Notice("bucket", "detect_images/a.jpg", created=True))
    inner = classify(roots, Notice("bucket", "detect_images/detect_images/a.jpg", created=True))
    assert isinstance(outer, Upload)
    assert isinstance(inner, Upload)
    assert (outer.root.prefix, inner.root.prefix) == ("", "detect_images")


@given(st.text(max_size=60), st.sampled_from(["", "/", "Ostatni/Pollen/", "plants/"]))
def test_no_key_is_too_strange(key: str, start: str) -> None:
    for roots in (ROOTS, roots_in(SITE, "bucket", "")):
        found = classify(roots, Notice("bucket", start + key, created=True))
        assert isinstance(found, Upload | SkipReason)
        if isinstance(found, Upload):
            assert (start + key) == "/".join(filter(None, [found.root.folder, found.key]))


NAMES = ["a.jpg", "b.PNG", "c.czi", "d.txt", ".e.jpg", ".hidden/f.jpg", "sub/g.tif", "h", "i.zip"]
EXPORTS = ["a.zip", "B.ZIP", "archive/c.zip", "archived/d.zip", "sub/e.zip", "f.txt"]


def test_runs_list_exactly_what_starts_them(tmp_path: Path) -> None:
    """The same rules on both sides: a run that is started finds what started it, and nothing is missed."""
    for name in (*(INPUTS + name for name in NAMES), *(STAGING + name for name in EXPORTS)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    roots = roots_in(Site(), "bucket", "")

    def starting(folder: str, names: list[str], kind: UploadKind) -> set[str]:
        found = {
            name: classify(roots, Notice("bucket", folder + name, created=True)) for name in names
        }
        return {
            name for name, what in found.items() if isinstance(what, Upload) and what.kind is kind
        }

    listed = list_inputs(Location(folder=tmp_path / INPUTS), Location(folder=tmp_path))
    assert starting(INPUTS, NAMES, UploadKind.PICTURES) == set(listed["key"])
    zips = staged_zips(open_store(Location(folder=tmp_path / STAGING)))
    assert starting(STAGING, EXPORTS, UploadKind.EXPORTS) == {entry.key for entry in zips}


def watched(site: dict[str, object]) -> tuple[WatchedRoots, bool]:
    roots = WatchedRoots(Site.model_validate(site))
    return roots, asyncio.run(roots.read())


def test_the_saved_block_decides_the_place_of_the_roots(prefect_server: EmbeddedPrefect) -> None:
    S3Bucket(
        bucket_name="saved", bucket_folder="deep/down/", credentials=AwsCredentials()
    ).save("watched-a", overwrite=True)  # fmt: skip
    storage = {"block": "watched-a", "bucket": "said", "folder": "elsewhere"}
    roots, answered = watched({"storage": storage, "prefixes": ["", "one"]})
    assert answered
    assert roots.known is not None
    assert [(root.bucket, root.folder) for root in roots.known] == [
        ("saved", "deep/down"),
        ("saved", "deep/down/one"),
    ]


def test_without_a_block_the_site_file_decides(prefect_server: EmbeddedPrefect) -> None:
    roots, _ = watched({"storage": {"block": "watched-none", "bucket": "said"}})
    assert roots.known is not None
    assert roots.known[0].bucket == "said"
    unknown, answered = watched({"storage": {"block": "watched-none"}})
    assert answered
    assert unknown.known is None


def test_a_server_that_is_away_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    said = {"block": "watched-b", "bucket": "said", "folder": "there"}
    roots, answered = watched({"storage": said})
    assert not answered
    assert roots.known is not None  # bucket and folder are said
    roots, _ = watched({"storage": {"block": "watched-b", "bucket": "said"}})
    assert roots.known is None  # a saved block may have a folder of its own
