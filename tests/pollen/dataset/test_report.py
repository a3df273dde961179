"""The report of a dataset says what is in it, and no file name can break the page."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollen.dataset.contact_sheet import contact_sheet, labelled_thumbnail
from pollen.dataset.findings import DatasetFinding, Severity
from pollen.dataset.manifest import LeftOut, Manifest, Source, Split
from pollen.dataset.report import (
    MOST_FINDINGS,
    MOST_GROUPS,
    MOST_IN_SUMMARY,
    MOST_NAMES,
    MOST_PAIRS,
    MOST_REASONS,
    DatasetReport,
    find_leaks,
    findings_csv,
    markdown_summary,
    render_dataset_report,
    show_pairs,
)
from tests.pollen.dataset.reporting import digest, image, manifest, thumbnail_of
from tests.support.pages import Page

HOSTILE = "<script>alert('x')</script>|`\"&lt;\u202egnp.png"

IMAGES = (
    image("a.png", Split.TRAIN, "1-1-A_2x", (1190, 10)),
    image("b.png", Split.TRAIN, "1-1-A_2x", (0, 0), width_px=320, height_px=200),
    image("c.png", Split.VAL, "2-1-A_S4x", (5, 5), source=Source(name="new.zip")),
    image("d.png", Split.TEST, "3-1-A_4x", (0, 7)),
)
WHOLE = manifest(*IMAGES)
FINDINGS = (
    DatasetFinding.note("new.zip", "2 of its pictures are in the dataset already"),
    DatasetFinding.warning("new.zip/e.jpg", "shows the same as train/images/a.png"),
    DatasetFinding.error("new.zip/labels/f.txt", "class 7 has no name: label the grain again", 12),
)


def report(
    whole: Manifest = WHOLE,
    findings: tuple[DatasetFinding, ...] = (),
    parent: Manifest | None = None,
) -> DatasetReport:
    return DatasetReport("alexander", 3, whole, parent, findings)


def words(one: DatasetReport) -> str:
    return " ".join(Page(render_dataset_report(one)).text.split())


def rows(one: DatasetReport) -> list[list[str]]:
    """Cells of every table row of the page."""
    page = render_dataset_report(one)
    found = re.findall(r"<tr[^>]*>(.*?)</tr>", page, re.DOTALL)
    return [
        [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)]
        for row in found
    ]


def test_pictures_and_grains_are_counted_by_split_plant_size_and_source() -> None:
    found = rows(report())
    assert ["train", "1", "2", "1", "1,190", "10", "99.2\N{NO-BREAK SPACE}%"] in found
    assert ["val", "1", "1", "0", "5", "5", "50.0\N{NO-BREAK SPACE}%"] in found
    assert ["all", "3", "4", "1", "1,195", "22", "98.2\N{NO-BREAK SPACE}%"] in found
    assert ["3-1-A_4x", "test", "1", "0", "0", "7", "0\N{NO-BREAK SPACE}%"] in found
    assert ["640", "640", "3"] in found
    assert ["320", "200", "1"] in found
    assert ["new.zip", "1", "0", "5", "5", "50.0\N{NO-BREAK SPACE}%"] in found
    text = words(report())
    assert "1,195 viable, 22 non-viable" in text


def test_a_plant_written_in_two_ways_is_one_row() -> None:
    one = report(manifest(image("a.jpg", group="1-3-F_4x"), image("b.jpg", group="1-3-f_4x")))

    plants = [row[:3] for row in rows(one) if row and row[0].casefold() == "1-3-f_4x"]
    assert plants == [["1-3-F_4x", "train", "2"]]
    assert "of 1 plants or groups" in markdown_summary(one)


def test_unsure_grains_have_a_column_only_where_there_are_any() -> None:
    assert "Unsure" not in words(report())
    unsure = manifest(*WHOLE.images, image("u.png", grains=(1, 0, 4)))
    assert "Unsure" in words(report(unsure))
    assert ["train", "1", "3", "1", "1,191", "10", "4", "99.2\N{NO-BREAK SPACE}%"] in rows(
        report(unsure)
    )


def test_findings_stand_with_file_and_line_the_gravest_first() -> None:
    found = [row for row in rows(report(findings=FINDINGS)) if row and row[0] in set(Severity)]
    assert found == [
        ["error", "new.zip/labels/f.txt", "12", "class 7 has no name: label the grain again"],
        ["warning", "new.zip/e.jpg", "", "shows the same as train/images/a.png"],
        ["note", "new.zip", "", "2 of its pictures are in the dataset already"],
    ]
    assert "1 error, 1 warning" in words(report(findings=FINDINGS))


def test_left_out_pictures_stand_by_reason() -> None:
    left = tuple(
        LeftOut(name=f"new.zip/{n:02}.png", sha256="", reason="no label") for n in range(20)
    )
    one = LeftOut(name="x.png", sha256="", reason="truncated PNG: upload it again")
    whole = Manifest(images=WHOLE.images, left_out=(*left, one))
    found = rows(report(whole))
    (many,) = [row for row in found if row[:2] == ["no label", "20"]]
    assert many[2].startswith("new.zip/00.png, new.zip/01.png")
    assert many[2].endswith(f"… and {20 - MOST_NAMES} more in the manifest")
    assert ["truncated PNG: upload it again", "1", "x.png"] in found


def test_what_changed_since_the_version_before() -> None:
    assert "The first version" in words(report())
    first, second, third, fourth = IMAGES
    before = manifest(first, second, third, image("old.png"))
    relabelled = image("b.png", group="1-1-A_2x", grains=(1, 0), width_px=320, height_px=200)
    after = manifest(first, relabelled, third, fourth, parent=2)
    page = render_dataset_report(report(after, parent=before))
    changes = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page.split("What changed")[1])[:3]
    assert changes == [
        ("1 added", "test/images/d.png"),
        ("1 changed (picture or label)", "train/images/b.png"),
        ("1 removed", "train/images/old.png"),
    ]
    assert (
        "previous version: 1 added; 1 changed (picture or label); 1 removed."
        in markdown_summary(report(after, parent=before))
    )
    same = report(manifest(*IMAGES, parent=2), parent=WHOLE)
    assert "Since version 2 the pictures and labels are the same" in words(same)
    assert "the pictures are the same" in markdown_summary(same)


def test_a_leak_is_found_whatever_made_it() -> None:
    assert find_leaks(WHOLE) == ()
    pixels = digest("same")
    leaking = manifest(
        image("a.png", Split.TRAIN, "g1", family="f1"),
        image("b.png", Split.TEST, "G1", family="f2"),  # a plant is written both ways
        image("c.png", Split.TRAIN, "g2", family="f3", pixels_sha256=pixels),
        image("d.png", Split.VAL, "g3", family="f3", pixels_sha256=pixels),
    )
    leaks = find_leaks(leaking)
    assert [(leak.what, leak.value, leak.splits) for leak in leaks] == [
        ("the plant", "g1", (Split.TRAIN, Split.TEST)),
        ("copies of", "f3", (Split.TRAIN, Split.VAL)),
        ("equal pixels", pixels[:16], (Split.TRAIN, Split.VAL)),
    ]
    assert "3 leaks" in words(report(leaking))
    assert "### In several splits (3)" in markdown_summary(report(leaking))


@given(
    splits=st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(Split), min_size=1),
    copies=st.integers(1, 3),
)
def test_plants_that_stay_in_one_split_leak_nothing(splits: dict[str, Split], copies: int) -> None:
    whole = manifest(
        *(image(f"{g}{n}.png", split, g) for g, split in splits.items() for n in range(copies))
    )
    assert find_leaks(whole) == ()


def test_only_where_every_name_tells_its_plant_are_plants_said_to_be_kept_apart() -> None:
    first, second = (image(name, original="1-1-A_2x_A.jpg") for name in ("a.png", "2-1-A_4x_B.png"))
    told = report(manifest(first, second))
    for text in (words(told), markdown_summary(told)):
        assert "No plant, and no copy of a picture, is in two splits" in text
    untold = report(manifest(first, second, image("3.png"), image("x.png", original="f_9.png")))
    assert "2 of 4 file names do not name a plant, for example 3.png" in words(untold)
    for text in (words(untold), markdown_summary(untold)):
        assert "No plant" not in text
        assert "No copy of a picture is in two splits" in text
    slides = Manifest(images=untold.manifest.images, settings={"sample_pattern": "(?P<plant>.)"})
    assert "No plant" in words(report(slides))


def test_an_empty_test_split_is_said() -> None:
    no_test = manifest(*IMAGES[:3])
    assert "No picture is in test: models will be judged on val" in words(report(no_test))
    assert "No picture is in" not in words(report())


def test_pairs_are_shown_with_what_is_available() -> None:
    names = [(f"train/images/{n}.png", f"new.zip/{n}.png") for n in range(MOST_PAIRS + 5)]
    read: list[str] = []

    def reading(name: str, longest_px: int) -> bytes | None:
        read.append(name)
        return None if name.startswith("new.zip") else thumbnail_of(name, longest_px)

    pairs = show_pairs(names, reading)
    assert len(pairs) == MOST_PAIRS
    assert len(read) == 2 * MOST_PAIRS
    page = Page(render_dataset_report(replace(report(), pairs=pairs, pairs_total=len(names))))
    assert page.text.count("not available") == MOST_PAIRS
    assert len(page.attributes("src")) == MOST_PAIRS
    assert f"({len(names)} pairs)" in page.text
    assert f"The first {MOST_PAIRS} of {len(names)} are shown" in page.text


def test_page_stands_alone_and_is_well_formed() -> None:
    full = replace(
        report(findings=FINDINGS, parent=manifest(image("old.png"))),
        pairs=show_pairs([("a", "b")], thumbnail_of),
        pairs_total=1,
        sheet=contact_sheet(WHOLE, thumbnail_of, new_keys=["val/images/c.png"]),
        code_version="0.1.0",
    )
    page = Page(render_dataset_report(full))
    assert page.open == []
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
    assert len(page.attributes("src")) == 6
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.attributes("src"))
    assert set(page.attributes("href")) == {"findings.csv"}
    assert page.text.count("new c.png") == 1
    assert "url(" not in render_dataset_report(full)


def test_hostile_names_stay_text_in_the_page() -> None:
    bad = "<img src=x onerror=alert(1)>"
    hostile = manifest(
        image("a.png", group=HOSTILE, family=HOSTILE, source=Source(name=bad)),
        image("b.png", Split.VAL, group=HOSTILE, family=HOSTILE),
    )
    whole = Manifest(
        images=hostile.images,
        left_out=(LeftOut(name=HOSTILE, sha256="", reason=bad),),
        settings={bad: bad},
    )
    one = replace(
        report(whole, (DatasetFinding.error(HOSTILE, bad, 1),)),
        name=HOSTILE,
        pairs=show_pairs([(HOSTILE, bad)], thumbnail_of),
        pairs_total=1,
        sheet=contact_sheet(whole, thumbnail_of),
    )
    page = Page(render_dataset_report(one))
    assert page.open == []
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [attrs for _, attrs in page.tags if "onerror" in attrs]
    assert "<script>alert('x')</script>|`\"&lt;\N{REPLACEMENT CHARACTER}gnp.png" in page.text
    assert "\u202e" not in page.text
    assert bad in page.text


def test_hostile_names_stay_one_cell_in_markdown() -> None:
    found = DatasetFinding.warning("a|b`c\n# d<script>[x](y).png", "a | message")
    (row,) = [
        line
        for line in markdown_summary(report(findings=(found,))).splitlines()
        if "message" in line
    ]
    assert len(re.split(r"(?<!\\)\|", row)) == 4
    assert not re.search(r"(?<!\\)[`<\[_*]", row)


def test_long_lists_are_cut_and_say_so() -> None:
    findings = tuple(
        DatasetFinding.warning(f"{n:05}.txt", "no label") for n in range(MOST_FINDINGS + 30)
    )
    whole = Manifest(
        images=tuple(image(f"{n}.png", group=f"plant {n:05}") for n in range(MOST_GROUPS + 20)),
        left_out=tuple(
            LeftOut(name=f"{n}", sha256="", reason=f"reason {n}") for n in range(MOST_REASONS + 7)
        ),
    )
    text = words(report(whole, findings))
    assert "… and 30 more in findings.csv" in text
    assert f"The first {MOST_GROUPS} of {MOST_GROUPS + 20} are shown" in text
    assert "… and 7 more reasons in the manifest" in text
    summary = markdown_summary(report(whole, findings))
    assert summary.count("| no label |") == MOST_IN_SUMMARY
    assert f"… and {len(findings) - MOST_IN_SUMMARY} more in `findings.csv`" in summary
    assert len(summary) < 10_000


def test_twenty_thousand_pictures_make_a_page_of_bounded_size() -> None:
    first = image("a.png")
    many = tuple(
        first.model_copy(update={"key": f"train/images/{n}.png", "group": f"plant {n // 9}"})
        for n in range(20_000)
    )
    findings = tuple(DatasetFinding.warning(f"{n}.txt", "no label " * 9) for n in range(20_000))
    whole = Manifest.model_construct(images=many, left_out=(), settings={}, classes=("viable",))
    page = render_dataset_report(report(whole, findings))
    assert len(page) < 400_000
    assert "20,000" in page


def test_equal_datasets_give_equal_bytes() -> None:
    turned = Manifest(images=WHOLE.images[::-1])
    one, other = report(findings=FINDINGS), report(turned, FINDINGS[::-1])
    assert render_dataset_report(one) == render_dataset_report(other)
    assert markdown_summary(one) == markdown_summary(other)
    assert findings_csv(one.findings) == findings_csv(other.findings)


def test_an_empty_dataset_is_still_a_report() -> None:
    assert "No plant, and no copy" not in words(report(manifest()))
    assert "**0** pictures" in markdown_summary(report(manifest()))


def test_settings_stand_in_words() -> None:
    settings = {"shares": {"train": 0.7, "val": 0.3}, "missing_labels": "reject"}
    text = words(report(Manifest(images=IMAGES, settings=settings)))
    assert "missing labelsreject sharestrain 0.7, val 0.3" in text


def test_summary_says_the_numbers() -> None:
    text = markdown_summary(report(findings=FINDINGS))
    assert "Dataset alexander, version **3**: **4** pictures of 3 plants" in text
    assert "| train | 2 | 1 | 1 | 1,190 | 10 |" in text
    assert "### Errors (1) and warnings (1)" in text
    assert "| new.zip/labels/f.txt, line 12 | class 7 has no name: label the grain again |" in text
    assert "are in the dataset already" not in text  # notes ask for nothing


def test_table_of_findings_is_plain() -> None:
    found = (
        *FINDINGS,
        DatasetFinding.warning("=cmd|' /C calc'!A0", 'a "quoted", \n message'),
        DatasetFinding.warning("", "-1"),
    )
    data = findings_csv(found)
    assert b"\r" not in data
    table = list(csv.reader(io.StringIO(data.decode(), newline="")))
    assert table[0] == ["severity", "file", "line", "message"]
    assert table[1] == [
        "error",
        "new.zip/labels/f.txt",
        "12",
        "class 7 has no name: label the grain again",
    ]
    assert ["warning", "'=cmd|' /C calc'!A0", "", 'a "quoted", \n message'] in table
    assert ["warning", "", "", "'-1"] in table
    assert len(table) == 1 + len(found)


@pytest.mark.slow
def test_real_pictures_make_a_page(real_pictures: Path) -> None:
    from pollen.dataset.exports.dataset_folder import read_dataset_folder
    from pollen.dataset.exports.open_tree import open_tree
    from pollen.dataset.merging import merge
    from pollen.dataset.pictures import decode
    from pollen.dataset.settings import DatasetSettings

    settings = DatasetSettings()
    with open_tree(real_pictures, settings.limits) as tree:
        whole = merge(read_dataset_folder(tree, settings), [], settings).manifest

        def thumbnail(key: str, longest_px: int) -> bytes:
            return labelled_thumbnail(decode(tree.read(key, 10**8), key, 10**8), (), longest_px)

        sheet = contact_sheet(whole, thumbnail)
    one = replace(report(whole), sheet=sheet)
    assert one.leaks == ()
    assert ["train", "32", "219", "37", "1,519", "417", "78.5\N{NO-BREAK SPACE}%"] in rows(one)
    assert len(render_dataset_report(one)) < 3_000_000
