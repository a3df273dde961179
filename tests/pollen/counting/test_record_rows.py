"""Record rows: rounded, complete, and empty where nothing is known."""

import numpy as np
import polars as pl
import pytest

from pollen import __version__
from pollen.columns import GRAIN_RECORD, IMAGE_RECORD
from pollen.counting.record_rows import (
    Provenance,
    counted_row,
    failed_row,
    grain_rows,
)
from pollen.counting.rules import CountedFrame, count_frame
from pollen.detection.batches import Item
from pollen.detection.profile import Profile
from pollen.detection.settings import DetectSettings, EdgeRule, OverlapRule
from pollen.models.card import ModelCard
from tests.pollen.grain_making import discs

CARD = ModelCard(version="v1", sha256="0" * 64, grain_diameter_px=50)
PROFILE = Profile.resolve(CARD, DetectSettings(device="cpu"))
ORIGIN = Provenance(Item("a.jpg", "etag", 9), "f" * 64, "batch", PROFILE)
SIZE = (400, 300)


def counted(centres: list[tuple[float, float]], diameter: float | list[float] = 40) -> CountedFrame:
    classes = [number % 2 for number in range(len(centres))]
    grains = discs(centres, diameter, classes=classes)
    return count_frame(grains, SIZE, EdgeRule.FRAME, OverlapRule.COUNT, 0.1)


def row(frame: CountedFrame, **values: object) -> dict[str, object]:
    made = counted_row(
        ORIGIN, "a.jpg", frame, size_px=SIZE, pixel_size_um=None, flags=(), committed_ms=7
    )
    return pl.DataFrame([made | values], schema=IMAGE_RECORD).row(0, named=True)


def test_a_counted_frame() -> None:
    made = row(counted([(100, 100), (200, 100), (395, 100)]))
    assert (made["status"], made["viable"], made["non_viable"]) == ("ok", 1, 1)
    assert (made["total_detected"], made["excluded_viable"]) == (3, 1)
    assert made["median_diameter_px"] == 40.0
    assert made["size_to_model"] is None
    assert made["code_version"] == __version__
    assert made["settings_fingerprint"] == PROFILE.fingerprint
    assert made["transient"] is False


def test_grains_left_out_are_listed_by_reason_and_class() -> None:
    grains = discs(
        [(100, 100), (110, 100), (395, 100), (395, 105), (300, 200)], 40, classes=[0, 1, 0, 1, 1]
    )
    made = row(count_frame(grains, SIZE, EdgeRule.FRAME, OverlapRule.EXCLUDE, 0.1))
    assert (made["viable"], made["non_viable"], made["total_detected"]) == (0, 1, 5)
    assert (made["excluded_viable"], made["excluded_non_viable"]) == (2, 2)
    # The two at the side overlap too: a grain has one reason.
    assert (made["excluded_edge_viable"], made["excluded_edge_non_viable"]) == (1, 1)
    assert (made["excluded_overlap_viable"], made["excluded_overlap_non_viable"]) == (1, 1)


def test_a_frame_without_grains_is_a_result() -> None:
    made = row(counted([]))
    assert (made["status"], made["viable"], made["non_viable"]) == ("empty", 0, 0)
    assert made["median_diameter_px"] is None


def test_a_failed_frame_has_no_counts() -> None:
    made = failed_row(ORIGIN, "a.jpg", "two\n  lines", 7, transient=True)
    found = pl.DataFrame([made], schema=IMAGE_RECORD).row(0, named=True)
    assert (found["status"], found["reason"]) == ("failed", "two lines")
    assert found["viable"] is found["total_detected"] is None
    assert found["transient"] is True


def test_grains_cut_by_the_frame_are_in_no_size() -> None:
    """The left one counts under the rule `frame`; a part of a grain is not a small grain."""
    frame = counted([(10, 100), (100, 100), (200, 100), (395, 100)], [20, 40, 40, 20])
    assert (row(frame)["viable"], row(frame)["non_viable"]) == (2, 1)
    assert row(frame)["median_diameter_px"] == 40.0
    rows = grain_rows(ORIGIN, "a.jpg", frame, 0.5)
    for column in ("area_px", "diameter_px", "area_um2", "diameter_um"):
        assert [value is None for value in rows[column]] == [True, False, False, True]
    assert row(counted([(10, 100)]))["median_diameter_px"] is None


def test_grains_are_numbered_and_rounded() -> None:
    rows = grain_rows(ORIGIN, "a.jpg", counted([(200.123, 100), (100, 50)]), None)
    assert rows.schema == GRAIN_RECORD
    assert rows["particle_id"].to_list() == [1, 2]
    assert rows["x_px"].to_list() == [100.0, 200.1]
    assert rows["diameter_px"].to_list() == [40.0, 40.0]
    assert rows["diameter_um"].to_list() == [None, None]


def test_stored_numbers_have_few_digits() -> None:
    """The last bits of floating point differ between machines and must not show in tables."""
    rows = grain_rows(ORIGIN, "a.jpg", counted([(100.4567, 100.4567)], 33.33333), 0.123456)
    for column, digits in (
        ("conf", 4),
        ("area_px", 1),
        ("diameter_px", 2),
        ("area_um2", 3),
        ("diameter_um", 3),
        ("x_px", 1),
        ("y_px", 1),
    ):
        assert rows[column].item() == round(rows[column].item(), digits)
    assert rows["diameter_um"].item() == pytest.approx(33.33333 * 0.123456, abs=5e-4)


def test_micrometres() -> None:
    rows = grain_rows(ORIGIN, "a.jpg", counted([(100, 100)]), 0.5)
    assert rows["diameter_um"].to_list() == [20.0]
    assert rows["area_um2"].item() == pytest.approx(np.pi * 100, abs=0.001)


def test_overlapping_grains_are_counted_but_have_no_sizes() -> None:
    frame = counted([(100, 100), (115, 100), (300, 200)])
    rows = grain_rows(ORIGIN, "a.jpg", frame, 0.5)
    assert rows["is_excluded"].to_list() == [False, False, False]
    for column in ("area_px", "diameter_px", "area_um2", "diameter_um"):
        assert [value is None for value in rows[column]] == [True, True, False]
