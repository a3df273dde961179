import re
from dataclasses import replace

import pytest

from pollen.reports.detection import Thumbnail
from pollen.reports.pages import plain, printable
from pollen.reports.summary import LOGIN_NOTE, MOST_ROWS, Highlights, failed_rows, markdown_summary
from tests.pollen.reports.test_detection import ROWS, data_of, failed, ok

NAME = "a|b`c\n# d<script>[x](y)_z_.png"
PICTURES = tuple(Thumbnail(f"{n}_{NAME}", b"\xff\xd8jpeg", "mean confidence 0.61") for n in (1, 2))


def link(key: str) -> str:
    return f"https://s3.example.org/pollen/{key.replace(' ', '%20')}"


def test_it_says_the_numbers_and_where_the_files_are() -> None:
    data = replace(data_of(ROWS), destination="s3://pollen/root", grain_table_note="last night")
    text = markdown_summary(data)
    assert "**4** images counted (1 without grains), **1** failed; **1,330** grains counted" in text
    assert "97.7\N{NO-BREAK SPACE}%** stained viable (95 % interval " in text
    assert "* **broken.png**: truncated PNG: the file ends in the middle; upload it again\n" in text
    assert r"| 1-1-A\_2x\_B | 2 | 0 | 1,270 | 30 |" in text
    assert (
        "`s3://pollen/root/pollen_counting_results/particle_measurements.csv` (last night)" in text
    )
    assert "](" not in text
    assert LOGIN_NOTE not in text


def test_files_are_linked_where_a_browser_finds_them_and_it_says_who_may() -> None:
    data = replace(data_of(ROWS), destination="s3://pollen/root")
    text = markdown_summary(data, Highlights(PICTURES[:1]), link)
    for name in ("reports/detection_report.html", "pollen_counts.csv", "sample_viability.csv"):
        place = f"pollen_counting_results/{name}"
        assert f"`s3://pollen/root/{place}` ([open]({link(place)}))" in text
    assert LOGIN_NOTE in text


def test_pictures_stand_side_by_side_below_their_names() -> None:
    text = markdown_summary(data_of(ROWS), Highlights(PICTURES, PICTURES[:1]))
    least, most = text.split("### Least certain")[1].split("### Most certain")
    assert "\n1. 1\\_a" in least
    assert "\n2. 2\\_a" in least
    picture = "data:image/jpeg;base64,/9hqcGVn"
    assert (
        f"\n| 1 | 2 |\n| --- | --- |\n| ![picture 1]({picture}) | ![picture 2]({picture}) |"
        in least
    )
    assert most.count(picture) == 1


@pytest.mark.parametrize("sample", [False, True])
def test_hostile_names_stay_text(sample: bool) -> None:
    rows = [ok(f"{NAME}/1.png", 5, 1)] if sample else [failed(NAME, "a | reason")]
    text = markdown_summary(data_of(rows), Highlights(PICTURES))
    lines = [line for line in text.splitlines() if "script" in line]
    assert len(lines) == 3
    for line in lines:
        assert not re.search(r"(?<!\\)[`<\[]", line)
        assert not re.search(r"(?<!\\)_", line)
    cells = re.split(r"(?<!\\)\|", lines[0])
    assert len(cells) == (9 if sample else 1)


@pytest.mark.parametrize("letter", ["\n", "\r", "\u2028", "\u202e", "\x00"])
def test_no_place_or_name_breaks_a_line_or_turns_the_text(letter: str) -> None:
    name = f"a{letter}# b.png"
    rows = [ok(name, 5, 1, f"flag{letter}# c"), failed(f"x{letter}# y", f"bad{letter}# z")]
    place = f"s3://b/`c{letter}# d"
    data = replace(data_of(rows), destination=place, model_version=f"m{letter}# n")
    plain = markdown_summary(data_of([ok("a.png", 5, 1, "flag c"), failed("x", "bad")]))
    text = markdown_summary(data, link=link)
    assert "\n# " not in text
    assert letter == "\n" or letter not in text
    assert len(text.splitlines()) == len(plain.splitlines()) + len(["", LOGIN_NOTE])
    assert text.count("`") % 2 == 0


LINKS = ("www.evil.example.png", "https://evil.example", "ann@evil.example", "![x](//evil.example)")
STARTS = (
    "# head",
    "- dash",
    "+ plus",
    "1. one",
    "12) one",
    "=== rule",
    "    four spaces",
    "> said",
)


@pytest.mark.parametrize("name", [NAME, *LINKS, *STARTS, "back\\slash", "\u202egnp.exe"])
def test_cells_of_the_table_of_failed_images_are_text_again_when_read(name: str) -> None:
    cells = failed_rows(data_of([failed(name, f"reason: {name}")]).counts)
    for cell, text in ((cells[0]["filename"], name), (cells[0]["reason"], f"reason: {name}")):
        assert plain(cell) == printable(text).strip()
        assert not re.search(r"(?<!\\)[`<\[|!@*_~#]|www\.|(?<!\\)://|^[-+=]|^\d+[.)] |^\s", cell)


def test_however_many_pictures_it_stays_small() -> None:
    rows = [ok(f"{i}-1-A_2x_B_{i:04}.png", 90, 10, f"flag {i} {'y' * 900}") for i in range(700)]
    rows += [failed(f"f{i}{'x_' * 500}.png", "bad " * 500) for i in range(MOST_ROWS + 5)]
    text = markdown_summary(data_of(rows))
    assert "5 more in `pollen_counting_results/pollen_counts.csv`" in text
    assert "in `pollen_counting_results/sample_viability.csv`" in text
    assert text.count("\n* **f") == MOST_ROWS
    assert len(text) < 25_000


def test_equal_tables_give_equal_text_whatever_their_order() -> None:
    assert markdown_summary(data_of(ROWS)) == markdown_summary(data_of(ROWS[::-1]))


def test_empty_parts_are_left_out() -> None:
    text = markdown_summary(data_of([]))
    assert text.startswith("**0** images counted")
    assert "### Samples" not in text
    assert "### Least certain" not in text
