"""What is an input, and what earlier runs wrote."""

import logging
from pathlib import Path

import pytest

from pollen.detection.settings import DetectSettings
from pollen.layout import COUNTS_TABLE, GRAINS_TABLE
from tasks.detection.planning import list_inputs, plan
from tasks.storage.store import Location

PICTURES = ("a.png", "deep/b.png", "detected_images/mine.png", "out/c.png")


def write(folder: Path, *keys: str) -> None:
    for key in keys:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content")


def results(place: str) -> tuple[str, ...]:
    """Some of what a run leaves below an output `place`."""
    above = f"{place}/" if place else ""
    return (
        f"{above}{COUNTS_TABLE}",
        f"{above}{GRAINS_TABLE}",
        f"{above}detected_images/a.png.jpg",
        f"{above}detected_images/deep/b.png.jpg",
        f"{above}trained_models/v1/chart.png",
        f"{above}pollen_counting_results/chart.png",
    )


@pytest.mark.parametrize("output", ["out/new", "../elsewhere"])
@pytest.mark.parametrize("earlier", [("out/old",), ("deep/x y", "out")])
def test_what_an_earlier_run_with_another_output_wrote_is_no_input(
    tmp_path: Path,
    output: str,
    earlier: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = tmp_path / "pictures"
    write(source, *PICTURES, *(key for place in earlier for key in results(place)))
    place = Location(folder=source), Location(folder=source / output)
    assert sorted(list_inputs(*place)["key"]) == list(PICTURES)
    with caplog.at_level(logging.INFO):
        planned = plan(*place, "records/", DetectSettings())
    assert planned.waiting == len(PICTURES)
    assert f"{4 * len(earlier)} pictures are left out, because earlier runs wrote" in caplog.text


def test_an_earlier_run_that_wrote_beside_the_pictures_is_known_too(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "deep/detected_images/mine.png", *results(""))
    found = list_inputs(Location(folder=tmp_path), Location(folder=tmp_path / "new"))
    assert sorted(found["key"]) == ["a.png", "deep/detected_images/mine.png"]
