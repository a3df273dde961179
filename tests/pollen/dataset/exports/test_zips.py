"""Zips from outside: what is refused, and with which words."""

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from pollen.dataset.exports.open_tree import open_tree
from pollen.dataset.exports.reading import Export, read_export
from pollen.dataset.exports.trees import TreeError
from pollen.dataset.findings import Severity
from pollen.dataset.settings import DatasetSettings, Limits
from tests.pollen.dataset.making import SETTINGS, picture, roboflow, zipped

GOOD = roboflow({"a.png": picture(1), "b.png": picture(2)})


def opened(folder: Path, data: bytes, settings: DatasetSettings = SETTINGS) -> Export:
    path = folder / "export.zip"
    path.write_bytes(data)
    with open_tree(path, settings.limits) as tree:
        return read_export(tree, settings)


def refused(export: Export) -> str:
    """The refusal's words; nothing of the zip may have been taken."""
    assert not export.is_usable
    first = export.findings[0]
    assert first.severity is Severity.ERROR
    assert first.file.startswith("export.zip")
    return str(first)


def with_entry(name: str, data: bytes = b"x", **attributes: int) -> bytes:
    """The good zip with one more entry, whose name is written as it stands."""
    buffer = io.BytesIO(zipped(GOOD))
    with zipfile.ZipFile(buffer, "a") as packed:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        for key, value in attributes.items():
            setattr(info, key, value)
        packed.writestr(info, data)
    return buffer.getvalue()


def test_a_good_zip_is_read(tmp_path: Path) -> None:
    export = opened(tmp_path, zipped(GOOD))
    assert export.is_usable
    assert export.findings == ()
    assert [image.entry for image in export.images] == ["train/images/a.png", "train/images/b.png"]
    assert len(export.tree.sha256) == 64


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.png", "leads elsewhere"),
        ("train/images/../../../evil.png", "leads elsewhere"),
        ("train//evil.png", "leads elsewhere"),
        ("./evil.png", "leads elsewhere"),
        ("../", "leads elsewhere"),
        ("/etc/passwd", "absolute path"),
        ("C:/evil.png", "absolute path"),
        ("c:evil.png", "absolute path"),
        ("train\\images\\evil.png", "backslash"),
        ("inner.zip", "archive inside the zip"),
        ("train/Inner.TAR", "archive inside the zip"),
        ("train/images/A.PNG", "same name as another entry"),
        ("train/images/evil\n.png", "control characters"),
        ("train/images/evil\u202egnp.exe", "control characters"),
        ("x" * 600 + ".png", "longer than 512"),
    ],
)
def test_names_that_no_labelling_tool_writes_refuse_the_zip(
    tmp_path: Path, name: str, reason: str
) -> None:
    export = opened(tmp_path, with_entry(name))
    assert reason in refused(export)
    assert export.images == ()


def test_the_same_name_twice(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = with_entry("train/images/a.png")
    assert "same name as another entry" in refused(opened(tmp_path, data))


@pytest.mark.parametrize(
    ("kind", "reason"), [(stat.S_IFLNK, "link to another file"), (stat.S_IFIFO, "device or pipe")]
)
def test_links_and_devices(tmp_path: Path, kind: int, reason: str) -> None:
    data = with_entry("train/images/c.png", b"/etc/passwd", external_attr=(kind | 0o777) << 16)
    assert reason in refused(opened(tmp_path, data))


def test_an_encrypted_entry(tmp_path: Path) -> None:
    data = bytearray(zipped(GOOD))
    # The flags of the first entry, in its own header and in the directory.
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    assert "stage a zip without a password" in refused(opened(tmp_path, bytes(data)))


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    data = with_entry("train/images/cafe.png").replace(b"cafe.png", b"caf\xe9.png")
    assert "another encoding than UTF-8" in refused(opened(tmp_path, data))
    # Marked as UTF-8, it can't even be listed.
    data = with_entry("train/images/\u00e9.png").replace("\u00e9".encode(), b"\xe9\xe9")
    assert "is incomplete or not a zip" in refused(opened(tmp_path, data))


def test_utf8_names_without_the_flag_are_read_as_such(tmp_path: Path) -> None:
    files = roboflow({"qq.png": picture(1)})
    data = zipped(files).replace(b"qq.", "\u00e9.".encode())
    export = opened(tmp_path, data)
    assert export.is_usable
    assert export.images[0].entry == "train/images/\u00e9.png"


def test_names_that_differ_only_in_how_the_zip_writes_them(tmp_path: Path) -> None:
    files = roboflow({"qq.png": picture(1), "\u00e9.png": picture(2)})
    data = zipped(files).replace(b"qq.png", "\u00e9.png".encode())
    assert "same name as another entry" in refused(opened(tmp_path, data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes"),
        (b"no zip at all", "is incomplete or not a zip"),
        (zipped(GOOD)[:-400], "is incomplete or not a zip"),
        (zipped(GOOD)[300:], "lacks its beginning"),
    ],
)
def test_damaged_zips(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reason in refused(opened(tmp_path, data))


def test_damage_inside_an_entry_is_named(tmp_path: Path) -> None:
    data = bytearray(zipped(GOOD))
    at = data.index(b"train/images/b.png") + 500
    data[at : at + 8] = b"damaged!"
    text = refused(opened(tmp_path, bytes(data)))
    assert "train/images/b.png" in text
    assert "damaged inside the zip" in text


def test_any_flipped_byte_is_survived(tmp_path: Path) -> None:
    whole = zipped(roboflow({"a.png": picture(1)}))
    for at in range(0, len(whole), 97):
        data = bytearray(whole)
        data[at] ^= 0xFF
        opened(tmp_path, bytes(data))  # whatever it says, it does not raise


def test_a_bomb_is_stopped_while_unpacking(tmp_path: Path) -> None:
    zeros = bytes(30_000_000)
    data = zipped(GOOD | {"train/images/c.png": zeros})
    text = refused(opened(tmp_path, data))
    assert "train/images/c.png" in text
    assert "more than 200 times" in text


def test_a_bomb_that_lies_about_its_size_is_stopped_too(tmp_path: Path) -> None:
    data = bytearray(zipped({"train/images/c.png": bytes(30_000_000)} | GOOD))
    directory = data.index(b"PK\1\2")
    struct.pack_into("<I", data, directory + 24, 100)  # says: 100 bytes unpacked
    text = refused(opened(tmp_path, bytes(data)))
    assert "train/images/c.png" in text


def test_limits_of_files_and_of_all_together(tmp_path: Path) -> None:
    data = zipped(GOOD)
    settings = DatasetSettings(limits=Limits(picture_megabytes=0.001))
    assert "larger than 0.001 MB" in refused(opened(tmp_path, data, settings))
    settings = DatasetSettings(limits=Limits(total_gigabytes=5e-6))
    assert "all files together" in refused(opened(tmp_path, data, settings))
    settings = DatasetSettings(limits=Limits(label_megabytes=1e-5))
    assert "train/labels/a.txt" in refused(opened(tmp_path, data, settings))
    settings = DatasetSettings(limits=Limits(entries=5))
    assert "holds 6 entries, more than 5" in refused(opened(tmp_path, data, settings))


def test_thousands_of_empty_files_are_refused_before_they_are_listed(tmp_path: Path) -> None:
    data = zipped({f"{number:06d}.txt": b"" for number in range(20_000)})
    settings = DatasetSettings(limits=Limits(entries=100))
    assert "its list of entries is" in refused(opened(tmp_path, data, settings))


def test_entries_that_share_their_bytes(tmp_path: Path) -> None:
    data = bytearray(zipped(GOOD))
    first = data.index(b"PK\1\2")
    second = data.index(b"PK\1\2", first + 1)
    # The second entry of the directory points into the first one's bytes.
    struct.pack_into("<I", data, second + 42, 10)
    assert "shares its bytes" in refused(opened(tmp_path, bytes(data)))


def test_what_systems_leave_about_is_ignored_with_a_note(tmp_path: Path) -> None:
    junk = {
        "__MACOSX/train/images/._a.png": b"\0\5\x16\7",
        "train/.DS_Store": b"x",
        "train/images/Thumbs.db": b"x",
        "train/images/._b.png": b"x",
    }
    export = opened(tmp_path, zipped(GOOD | junk))
    assert export.is_usable
    assert len(export.images) == 2
    (note,) = export.findings
    assert note.severity is Severity.NOTE
    assert note.message.startswith("4 files")


def test_many_faults_are_summed_up(tmp_path: Path) -> None:
    export = opened(tmp_path, zipped({f"../{number}.png": b"x" for number in range(50)}))
    assert len(export.findings) == 21
    assert any("30 more entries" in found.message for found in export.findings)


def test_a_path_without_anything(tmp_path: Path) -> None:
    with (
        pytest.raises(TreeError, match="neither a folder nor a zip"),
        open_tree(tmp_path / "none.zip", SETTINGS.limits),
    ):
        pass
