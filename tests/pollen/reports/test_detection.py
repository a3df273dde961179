import re
from dataclasses import replace
from urllib.parse import unquote

import polars as pl
import pytest

from pollen.columns import COUNT_COLUMNS, IMAGE_RECORD
from pollen.detection.settings import DetectSettings, EdgeRule, OverlapRule
from pollen.layout import annotated_key
from pollen.reports import detection as report
from pollen.reports.detection import (
    MOST_IMAGES,
    ReportData,
    Thumbnail,
    annotated_link,
    headline,
    render_report,
)
from pollen.reports.summary import markdown_summary
from pollen.statistics.intervals import viability_interval
from pollen.statistics.samples import overall_viability, summarise_samples
from tests.support.pages import Page

PATTERN = DetectSettings().sample_pattern
HOSTILE = "<script>alert('x')</script>|`\"&lt;\u202egnp.tif#scene=2"


def ok(
    filename: str, viable: int, non_viable: int, flags: str = "", *, present: bool = True
) -> dict[str, object]:
    interval = viability_interval(viable, non_viable)
    total = viable + non_viable
    row: dict[str, object] = {
        "filename": filename,
        "viable": viable,
        "non_viable": non_viable,
        "total_counted": total,
        "total_detected": total + 2,
        "status": "ok",
        "input_present": present,
        "flags": flags,
    }
    if interval:
        row |= {
            "viability": round(interval.estimate, 6),
            "viability_low": round(interval.low, 6),
            "viability_high": round(interval.high, 6),
        }
    return row


def empty(filename: str) -> dict[str, object]:
    return ok(filename, 0, 0) | {"status": "empty", "total_detected": 0}


def failed(filename: str, reason: str) -> dict[str, object]:
    return {"filename": filename, "status": "failed", "reason": reason, "input_present": True}


def data_of(rows: list[dict[str, object]], settings: DetectSettings | None = None) -> ReportData:
    settings = settings or DetectSettings()
    schema = {name: IMAGE_RECORD.get(name, pl.Float64()) for name in COUNT_COLUMNS}
    schema["total_counted"] = pl.Int64()
    counts = pl.DataFrame(rows, schema=schema | {"input_present": pl.Boolean()}, orient="row")
    return ReportData(
        counts=counts,
        samples=summarise_samples(counts, settings.sample_pattern),
        settings=settings,
        model_version="bundled-1",
        model_sha256="ab" * 32,
        settings_fingerprint="c0ffee12",
        code_version="0.1.0",
    )


ROWS = [
    ok("1-1-A_2x_B_1.png", 1190, 10),
    ok("1-1-A_2x_B_2.png", 80, 20, "scale differs from the model's; blurred"),
    ok("2-1-A_S4x_B_1.png", 30, 0),
    ok("gone.png", 1, 99, present=False),
    empty("dust.png"),
    failed("broken.png", "truncated PNG: the file ends in the middle; upload it again"),
]


def test_headline_leaves_out_failed_and_deleted() -> None:
    data = data_of(ROWS)
    first = headline(data.counts, PATTERN)
    assert (first.images, first.empty, first.failed, first.deleted) == (4, 1, 1, 1)
    assert (first.viable, first.non_viable, first.counted, first.excluded) == (1300, 30, 1330, 6)
    assert first.viability == overall_viability(data.counts, PATTERN)
    text = Page(render_report(data)).text
    assert "97.7\N{NO-BREAK SPACE}%" in text
    assert "1,330" in text
    assert "stained viable does not mean fertile" in text.replace("\n", " ")


def test_grains_left_out_are_listed_by_reason_and_class() -> None:
    text = Page(render_report(data_of(ROWS))).text
    assert "6 more found, but left out by the rules below" in text
    assert "edge" not in text.split("left out by the rules below")[1].split("Pictures counted")[0]
    recorded = ROWS[0] | {"excluded_edge_viable": 1, "excluded_overlap_non_viable": 1}
    text = Page(render_report(data_of([recorded, *ROWS[1:]]))).text
    assert (
        "rules below: edge 1 viable, 0 non-viable; overlap 0 viable, 1 non-viable; "
        "4 for a reason that an earlier version of this program did not record" in text
    )


def test_an_interval_of_one_plant_is_called_so() -> None:
    data = data_of(ROWS[:2])
    for text in (Page(render_report(data)).text, markdown_summary(data)):
        assert ", of this one plant or folder" in text
    for text in (Page(render_report(data_of(ROWS))).text, markdown_summary(data_of(ROWS))):
        assert "one plant or folder" not in text


def test_a_warning_names_the_size_of_all_grains_together() -> None:
    rows = [ok(f"{n}.png", 1, 0) | {"size_to_model": 0.25} for n in range(3)]
    for text in (Page(render_report(data_of(rows))).text, markdown_summary(data_of(rows))):
        assert "is 0.25 times the size" in text.replace("\\", "")
    known = [row | {"size_to_model": 1.0} for row in rows]
    assert "times the size" not in Page(render_report(data_of(known))).text


def test_a_warning_says_that_most_pictures_are_empty() -> None:
    data = data_of([*ROWS, empty("a.png"), empty("b.png"), empty("c.png")])
    for text in (Page(render_report(data)).text, markdown_summary(data)):
        assert "Most pictures have no grain at all" in text
    assert "Most pictures" not in markdown_summary(data_of(ROWS))


def test_page_stands_alone_and_is_well_formed() -> None:
    page = Page(
        render_report(replace(data_of(ROWS), thumbnails=(Thumbnail("a.png", b"\xff\xd8jpeg"),)))
    )
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object"}
    sources = page.attributes("src")
    assert sources == ["data:image/jpeg;base64,/9hqcGVn"]
    links = page.attributes("href")
    assert links
    assert all(link.startswith("../../") for link in links)
    assert "url(" not in render_report(data_of(ROWS))


def test_links_lead_from_the_report_to_the_annotated_pictures() -> None:
    name = "Ostatní/100 % + ?#&\"'.czi#scene=2"
    link = annotated_link(name)
    assert re.fullmatch(r"[A-Za-z0-9._~/%-]+", link)
    assert unquote(link) == "../../" + annotated_key(name)
    assert annotated_link("a/b.png") == "../../detected_images/a/b.png.jpg"
    assert link in Page(render_report(data_of([ok(name, 3, 1)]))).attributes("href")


def test_without_annotated_pictures_nothing_links_to_them() -> None:
    page = Page(render_report(data_of(ROWS, DetectSettings(annotate=False))))
    assert not [link for link in page.attributes("href") if "detected_images" in link]
    assert "2-1-A_S4x_B_1.png" in page.text


def test_failed_pictures_come_first_with_their_reasons() -> None:
    text = Page(render_report(data_of(ROWS))).text
    assert text.index("broken.png") < text.index("Samples (")
    assert "the file ends in the middle; upload it again" in text
    assert "Failed pictures" not in Page(render_report(data_of(ROWS[:3]))).text


def test_flags_are_explained_and_counted() -> None:
    text = Page(render_report(data_of(ROWS))).text
    section = text[text.index("Pictures to look at") : text.index("Samples (")]
    assert "scale differs from the model's (1 picture)" in section
    assert "grain_diameter_px" in section
    assert "blurred (1 picture)" in section
    assert "1-1-A_2x_B_2.png" in section


def test_picture_without_counted_grains_is_no_zero_percent() -> None:
    page = render_report(data_of([empty("dust.png")]))
    assert page.count("no grain counted") >= 3
    assert "0\N{NO-BREAK SPACE}%" not in Page(page).text.split("How these numbers")[0]


@pytest.mark.parametrize("edge", EdgeRule)
@pytest.mark.parametrize("overlap", OverlapRule)
def test_rules_are_explained(edge: EdgeRule, overlap: OverlapRule) -> None:
    text = Page(
        render_report(data_of(ROWS, DetectSettings(edge_rule=edge, overlap_rule=overlap)))
    ).text
    as_before = edge is EdgeRule.EXCLUDE and overlap is OverlapRule.EXCLUDE
    assert ("are those of the laboratory's earlier script" in text) == as_before
    assert ("edge_rule: exclude and overlap_rule: exclude do the same" in text) != as_before
    assert f"{edge}: Grains that touch" in text
    assert f"{overlap}: Overlapping grains" in text


def test_bar_shows_the_interval_to_scale() -> None:
    rows = re.findall(
        r'class="range" x="([\d.]+)" y="4" width="([\d.]+)"',
        render_report(data_of([ok("a", 50, 50)])),
    )
    left, width = map(float, rows[-1])
    assert left == pytest.approx(200 * 0.4038, abs=0.1)
    assert left + width == pytest.approx(200 * 0.5962, abs=0.1)


def test_hostile_names_stay_text_in_the_page() -> None:
    rows = [
        ok(HOSTILE, 5, 1, "<b>flag</b>"),
        failed("<img src=x onerror=alert(1)>", "</td><script>no</script>"),
        ok(f"{HOSTILE}/x", 5, 1),
    ]
    data = replace(
        data_of(rows),
        model_version="<i>m</i>",
        thumbnails=(Thumbnail(HOSTILE, b"jpeg", "<u>note</u>"),),
        grain_table_note="<s>then</s>",
    )
    page = Page(render_report(data))
    assert page.open == []
    assert not {tag for tag, _ in page.tags} & {"script", "bold", "i", "u", "s"}
    assert [attrs for tag, attrs in page.tags if tag == "img" and "onerror" in attrs] == []
    assert (
        "<script>alert('x')</script>|`\"&lt;\N{REPLACEMENT CHARACTER}gnp.tif#scene=2" in page.text
    )
    assert "\u202e" not in page.text


def test_long_tables_are_cut_and_say_so() -> None:
    rows = [ok(f"{i}-1-A_2x_B_{i:04}.png", 90, 10) for i in range(MOST_IMAGES + 100)]
    rows += [failed(f"f{i}.png", "bad") for i in range(5)]
    data = data_of(rows)
    page = render_report(data)
    assert f"The first {MOST_IMAGES} of {MOST_IMAGES + 100} are shown" in Page(page).text
    # One sample holds the failed pictures only and has no bar.
    assert page.count('class="bar"') == MOST_IMAGES + data.samples.height - 1


def test_five_thousand_pictures_make_a_page_of_bounded_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [ok(f"folder {i % 3}/{i % 40}-1-A_2x_B_{i}.png", 90, i % 30) for i in range(5000)]
    page = render_report(data_of(rows))
    assert len(page) < 1_000_000
    monkeypatch.setattr(report, "MOST_IMAGES", 10)
    assert len(render_report(data_of(rows))) < 100_000


def test_equal_tables_give_equal_bytes_whatever_their_order() -> None:
    data, turned = data_of(ROWS), data_of(ROWS[::-1])
    assert render_report(data) == render_report(data) == render_report(turned)


def test_nothing_to_report_is_still_a_report() -> None:
    data = data_of([])
    assert "no grain counted" in Page(render_report(data)).text
