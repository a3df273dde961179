"""The dataset check as a flow run over real S3: final states, what they say, and the artifact."""

import io
import re
import zipfile
from pathlib import Path
from typing import Any, cast

import pytest
from prefect.client.schemas.objects import State

from flows.check import check_exports
from services.embedded import EmbeddedPrefect, EmbeddedS3
from tests.flows.test_flow_run import artifacts_of, save_block
from tests.support.labelled import NAMES, export, labelled
from tests.support.runs import files, objects, upload

BLOCK = "checking"
FOLDER = "flow/checking"
FAULTY = {"train/images/x.png": labelled(90)[0], "train/labels/x.txt": b"7 0.5 0.5 0.2 0.2\n"}
UNSURE = {"train/images/x.png": labelled(90)[0], "train/labels/x.txt": b"2 0.5 0.5 0.2 0.2\n"}


@pytest.fixture(scope="module")
def block(prefect_process: EmbeddedPrefect, s3_server: EmbeddedS3) -> None:
    """A bucket that only the block knows how to reach."""
    with prefect_process.active():
        save_block(BLOCK, s3_server, FOLDER)


@pytest.fixture(autouse=True)
def server(block: None, prefect_server: EmbeddedPrefect) -> None:
    """The flows called here report to a server on which the block is saved."""


@pytest.fixture
def root(request: pytest.FixtureRequest) -> str:
    """A root of this test alone."""
    return re.sub(r"\W+", "-", request.node.name)


def stage(server: EmbeddedS3, root: str, zips: dict[str, bytes]) -> None:
    upload(server, f"{FOLDER}/{root}/staging_area", zips)


def run(root: str, **values: object) -> State[Any]:
    state = check_exports(bucket=BLOCK, prefix=root, return_state=True, **values)
    return cast("State[Any]", state)


def page(state: State[Any]) -> str:
    return str(artifacts_of(state)["dataset-check"].data)


def test_good_exports_are_said_to_be_and_stay_as_they_are(s3_server: EmbeddedS3, root: str) -> None:
    good = {"a.zip": export(NAMES[:3]), "new/b.zip": export(NAMES[3:5], first_seed=20)}
    stage(s3_server, root, {**good, "archive/old.zip": b"merged long ago", "read me.txt": b""})
    before = objects(s3_server, f"{FOLDER}/{root}")

    state = run(root)

    assert (state.name, state.type.value) == ("Completed", "COMPLETED")
    assert state.message == "2 exports: 5 pictures with 25 grains can be used"
    assert "**a.zip can be used as it is.**" in page(state)
    assert "| viable grains | 12 |" in page(state)
    assert objects(s3_server, f"{FOLDER}/{root}") == before


def test_what_has_to_be_corrected_is_named_with_file_and_line(
    s3_server: EmbeddedS3, root: str
) -> None:
    stage(
        s3_server,
        root,
        {
            "good.zip": export(NAMES[:2]),
            "faulty.zip": export(NAMES[2:4], first_seed=20, extra=FAULTY),
            "unsure.zip": export(
                NAMES[4:6],
                first_seed=30,
                classes=("viable", "non_viable", "unsure"),
                extra=UNSURE,
            ),
        },
    )

    state = run(root)

    assert (state.name, state.type.value) == ("ChangesNeeded", "COMPLETED")
    message = str(state.message)
    assert message.startswith("3 exports: 4 pictures with 20 grains can be used; ")
    assert "to correct: faulty.zip, unsure.zip; " in message
    assert "faulty.zip/train/labels/x.txt, line 1: class 7 has no name" in message
    shown = page(state)
    assert "would be refused: correct the errors below and check again." in shown
    assert "| **error** | faulty.zip/train/labels/x.txt, line 1 |" in shown
    assert "1 of its grains are labelled 'unsure'" in shown


def test_one_export_is_checked_by_its_name_or_key(s3_server: EmbeddedS3, root: str) -> None:
    stage(s3_server, root, {"good.zip": export(NAMES[:2]), "faulty.zip": b"no zip"})

    for name in ("good.zip", "staging_area/good.zip"):
        state = run(root, export=name)
        assert (state.name, state.message) == (
            "Completed",
            "1 export: 2 pictures with 10 grains can be used",
        )


def hostile() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../outside.txt", "x")
        archive.writestr("<img src=x onerror=alert(1)>|.png", "x")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (hostile(), "has a path that leads elsewhere"),
        (export(NAMES[:2])[:-300], "is incomplete or not a zip"),
        (b"", "is empty (0 bytes)"),
    ],
    ids=["hostile", "broken-off", "empty"],
)
def test_a_zip_that_is_hostile_or_broken_fails_and_the_others_are_checked(
    s3_server: EmbeddedS3,
    root: str,
    data: bytes,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    stage(s3_server, root, {"good.zip": export(NAMES[:2]), "bad.zip": data})

    state = run(root)

    assert (state.name, state.is_failed()) == ("Failed", True)
    assert "to correct: bad.zip" in str(state.message)
    assert words in str(state.message)
    assert "good.zip can be used as it is." in page(state)
    assert "<img" not in page(state).replace("\\<img", "")
    assert files(tmp_path) == {}


def test_a_zip_that_is_too_large_is_named_and_the_others_are_checked(
    s3_server: EmbeddedS3, root: str
) -> None:
    faulty = export(NAMES[2:4], first_seed=20, extra=FAULTY)
    large = export(NAMES[:2], extra={"large.bin": bytes(range(256)) * 4000})
    good = export(NAMES[4:5], first_seed=30)
    stage(s3_server, root, {"faulty.zip": faulty, "good.zip": good, "large.zip": large})
    gigabytes = (len(large) - 1) / 1e9
    assert max(len(faulty), len(good)) < len(large) / 2

    state = run(root, merging={"limits": {"total_gigabytes": gigabytes}})

    assert (state.name, state.is_failed()) == ("Failed", True)
    assert "to correct: large.zip, faulty.zip; " in str(state.message)
    assert "GB, and was not opened: stage the pictures in several zips" in page(state)
    assert "faulty.zip/train/labels/x.txt, line 1" in page(state)
    assert "good.zip can be used as it is." in page(state)


def test_one_that_is_not_there_fails_with_what_is(s3_server: EmbeddedS3, root: str) -> None:
    stage(s3_server, root, {"good.zip": export(NAMES[:1])})
    for name in ("typo.zip", "../good.zip", "archive/../good.zip"):
        state = run(root, export=name)
        assert state.name == "Failed"
        assert f"there is no zip '{name}' in " in str(state.message)
        assert "Staged now: good.zip" in str(state.message)


def test_nothing_staged_and_a_block_never_saved(root: str) -> None:
    state = run(root)
    assert (state.name, state.is_completed()) == ("NothingNew", True)
    assert "no zip is staged in " in str(state.message)
    state = cast("State[Any]", check_exports(bucket="never-saved", return_state=True))
    assert state.name == "Failed"
    assert "there is no S3Bucket block named 'never-saved'" in str(state.message)


def test_the_form_explains_every_parameter() -> None:
    properties = check_exports.parameters.properties
    assert list(properties) == ["bucket", "prefix", "export", "merging"]
    assert all(parameter["description"] for parameter in properties.values())
