"""Profiles, fingerprints, and frames on their way through the model."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pollen.detection import detector as module
from pollen.detection.decoding import Decoder, OutputError
from pollen.detection.detector import Detector, DeviceError, Profile, detect_frames
from pollen.detection.grains import FloatArray, Grains, overlaps
from pollen.detection.settings import DetectSettings
from pollen.detection.tiling import ScaleError, TileGrid
from pollen.models.card import ModelCard, ModelError
from tests.pollen.conftest import Prepared
from tests.pollen.grain_making import equal
from tests.pollen.model_making import TILE_PX, rendered, write_model

CARD = ModelCard(version="v1", sha256="0" * 64, grain_diameter_px=50, pixel_size_um=0.4)

#: Every setting is one or the other; a new one must be put here.
CHANGES_RESULTS = {
    "edge_rule": "all",
    "overlap_rule": "exclude",
    "overlap_fraction": 0.2,
    "confidence": 0.3,
    "merge_iou": 0.4,
    "grain_diameter_px": 60.0,
    "pixel_size_um": 0.3,
    "frame_max_megapixels": 10.0,
    "backend": "torch",
}
CHANGES_NOTHING = {
    "annotate": False,
    "annotated_max_megapixels": 1.0,
    "batch_images": 2,
    "io_threads": 2,
    "memory_megapixels": 10.0,
    "grain_table_rows": 5,
    "refresh_grain_table": True,
    "sample_pattern": r"(?P<plant>\w+)",
}
DEVICE_SETTINGS = {"device", "precision"}  # need a GPU to differ


def fingerprint(**values: object) -> str:
    settings = DetectSettings.model_validate({"device": "cpu"} | values)
    return Profile.resolve(CARD, settings).fingerprint


def test_every_setting_is_known_to_change_results_or_not() -> None:
    known = CHANGES_RESULTS.keys() | CHANGES_NOTHING.keys() | DEVICE_SETTINGS
    assert known == set(DetectSettings.model_fields)


@pytest.mark.parametrize(("name", "value"), CHANGES_RESULTS.items())
def test_settings_that_change_results_change_the_fingerprint(name: str, value: object) -> None:
    assert fingerprint(**{name: value}) != fingerprint()


@pytest.mark.parametrize(("name", "value"), CHANGES_NOTHING.items())
def test_settings_that_change_no_result_leave_the_fingerprint(name: str, value: object) -> None:
    assert fingerprint(**{name: value}) == fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "1" * 64},
        {"version": "v2"},
        {"tile_px": 320},
        {"working_scale": 0.5},
        {"max_grain_px": 90},
        {"grain_diameter_px": 60},
        {"pixel_size_um": None},
        {"confidence": 0.5},
        {"merge_iou": 0.6},
        {"viable_odds": 2},
    ],
)
def test_what_a_card_says_of_counting_is_in_the_fingerprint(change: dict[str, object]) -> None:
    settings = DetectSettings(device="cpu")
    other = Profile.resolve(CARD.model_copy(update=change), settings)
    assert other.fingerprint != Profile.resolve(CARD, settings).fingerprint


def test_what_went_through_a_file_or_a_form_has_the_same_fingerprint() -> None:
    settings = DetectSettings(device="cpu")
    other = DetectSettings.model_validate_json(settings.model_dump_json())
    card = ModelCard.model_validate_json(CARD.model_dump_json())
    assert Profile.resolve(card, other).fingerprint == fingerprint()


@pytest.mark.parametrize("gpu", [False, True])
def test_a_run_on_another_machine_is_told_what_that_has(
    gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cuda_present", lambda: not gpu)
    profile = Profile.resolve(CARD, DetectSettings(), gpu=gpu)
    there = ("cuda", "torch", "fp16") if gpu else ("cpu", "openvino", "fp32")
    assert (profile.device, profile.backend, profile.precision) == there
    assert Profile.resolve(CARD, DetectSettings(device="cpu"), gpu=gpu).device == "cpu"


@pytest.mark.parametrize(
    ("present", "expected"),
    [(False, ("cpu", "openvino", "fp32")), (True, ("cuda", "torch", "fp16"))],
)
def test_auto_takes_what_the_machine_has(
    present: bool,
    expected: tuple[str, str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "cuda_present", lambda: present)
    profile = Profile.resolve(CARD, DetectSettings())
    assert (profile.device, profile.backend, profile.precision) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"device": "cuda"}, "no usable NVIDIA GPU"),
        ({"device": "cpu", "precision": "fp16"}, "fp16 needs a GPU"),
    ],
)
def test_what_does_not_go_together_is_refused(
    values: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cuda_present", lambda: False)
    with pytest.raises(DeviceError, match=message):
        Profile.resolve(CARD, DetectSettings.model_validate(values))


def test_a_grain_diameter_needs_the_models_own() -> None:
    card = CARD.model_copy(update={"grain_diameter_px": None})
    settings = DetectSettings(device="cpu", grain_diameter_px=100)
    with pytest.raises(ScaleError, match="model 'v1' does not say how large its training grains"):
        Profile.resolve(card, settings)


def test_openvino_is_not_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cuda_present", lambda: True)
    with pytest.raises(DeviceError, match="set device: cpu or backend: torch"):
        Profile.resolve(CARD, DetectSettings(device="cuda", backend="openvino"))


@dataclass
class Shown:
    """A frame in memory that may break when it is read."""

    pixels: NDArray[np.uint8]
    breaks: Exception | None = None
    reads: list[tuple[int, int, int, int]] = field(default_factory=list)

    @property
    def width_px(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height_px(self) -> int:
        return int(self.pixels.shape[0])

    def read(self, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        self.reads.append(box)
        if self.breaks and len(self.reads) > 1:
            raise self.breaks
        x0, y0, x1, y1 = box
        return np.ascontiguousarray(self.pixels[y0:y1, x0:x1])


def grid_of(detector: Detector) -> TileGrid:
    return detector.grid(None)


def test_frames_come_back_in_order_whatever_their_size(on_openvino: Detector) -> None:
    frames = [
        Shown(np.tile(pixels, (n % 3 + 1, 2, 1))) for n, pixels in enumerate(rendered(4, 500))
    ]
    together = list(detect_frames(frames, on_openvino, lambda _: grid_of(on_openvino)))
    assert [frame for frame, _ in together] == frames
    for frame, found in together:
        (alone,) = detect_frames([frame], on_openvino, lambda _: grid_of(on_openvino))
        assert isinstance(found, Grains)
        assert isinstance(alone[1], Grains)
        assert np.array_equal(found.boxes, alone[1].boxes)
        assert np.array_equal(found.confidence, alone[1].confidence)


@pytest.mark.parametrize("error", [ValueError("damaged"), OSError("gone"), MemoryError()])
def test_a_frame_that_breaks_costs_the_others_nothing(
    error: Exception, on_openvino: Detector
) -> None:
    pixels = rendered(3, 900)
    frames = [Shown(pixels[0]), Shown(pixels[1], breaks=error), Shown(pixels[2])]
    results = list(detect_frames(frames, on_openvino, lambda _: grid_of(on_openvino)))
    assert [frame for frame, _ in results] == frames
    assert results[1][1] is error
    assert isinstance(results[0][1], Grains)
    assert isinstance(results[2][1], Grains)


def test_a_tile_whose_output_can_not_be_used_costs_one_frame(
    on_openvino: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [Shown(pixels) for pixels in rendered(3, 300)]
    alone = [
        found for _, found in detect_frames(frames, on_openvino, lambda _: grid_of(on_openvino))
    ]
    decode, calls = Decoder.decode, count(1)

    def spoilt(self: Decoder, raw: FloatArray, prototypes: FloatArray | None) -> Grains:
        overflowed = np.where(next(calls) == 2, np.nan, raw).astype(np.float32)
        return decode(self, overflowed, prototypes)

    monkeypatch.setattr(Decoder, "decode", spoilt)
    results = list(detect_frames(frames, on_openvino, lambda _: grid_of(on_openvino)))
    assert [frame for frame, _ in results] == frames
    assert [type(found) for _, found in results].count(OutputError) == 1
    for (_, found), expected in zip(results, alone, strict=True):
        if isinstance(found, Grains):
            assert isinstance(expected, Grains)
            assert equal(found, expected)


def test_frames_are_taken_only_as_the_model_needs_them(on_openvino: Detector) -> None:
    taken = 0

    def frames() -> Iterator[Shown]:
        nonlocal taken
        for pixels in rendered(3, 300) * 30:
            taken += 1
            yield Shown(pixels)

    results = detect_frames(frames(), on_openvino, lambda _: grid_of(on_openvino))
    next(results)
    assert taken <= on_openvino.batch


def test_none_runs_what_waits(on_openvino: Detector) -> None:
    asked: list[str] = []

    def frames() -> Iterator[Shown | None]:
        yield Shown(rendered(1, 300)[0])
        yield None
        asked.append("after the result")
        yield Shown(rendered(1, 300)[0])

    results = detect_frames(frames(), on_openvino, lambda _: grid_of(on_openvino))
    next(results)
    assert not asked


def test_no_tiles_need_no_model(on_openvino: Detector) -> None:
    assert on_openvino.detect([]) == []


@pytest.mark.parametrize(
    ("card", "settings", "pixel_size_um", "scale"),
    [
        ({}, {}, None, 1.0),
        ({"working_scale": 0.5}, {}, None, 0.5),
        ({}, {}, 0.2, 0.5),
        ({"pixel_size_um": None}, {}, 0.2, 1.0),
        ({}, {"grain_diameter_px": 100}, 0.2, 0.5),
    ],
)
def test_frames_are_resampled_by_known_ratios_only(
    on_openvino: Detector,
    monkeypatch: pytest.MonkeyPatch,
    card: dict[str, object],
    settings: dict[str, object],
    pixel_size_um: float | None,
    scale: float,
) -> None:
    told = CARD.model_copy(update={"tile_px": 640} | card)
    wanted = DetectSettings.model_validate({"device": "cpu"} | settings)
    monkeypatch.setattr(on_openvino, "card", told)
    monkeypatch.setattr(on_openvino, "profile", Profile.resolve(told, wanted))
    grid = on_openvino.grid(pixel_size_um)
    assert grid.scale == pytest.approx(scale)
    # The largest expected grain is as large for the model whatever the scale of the frame.
    assert grid.largest_grain_px * grid.scale == pytest.approx(
        told.max_grain_px * told.working_scale
    )


def test_a_frame_too_small_for_the_stated_grains_is_refused(
    on_openvino: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert on_openvino.grid(None, (20, 10)).scale == on_openvino.grid(None).scale
    stated = replace(on_openvino.profile, grain_diameter_px=300.0)
    monkeypatch.setattr(on_openvino, "profile", stated)
    assert on_openvino.grid(None, (600, 20)).scale == on_openvino.grid(None).scale
    with pytest.raises(ScaleError, match=r"599 x 480 px, less than 2 grains of the stated 300 px"):
        on_openvino.grid(None, (599, 480))


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_classes_go_by_name_whatever_their_number(backend: str, tmp_path: Path) -> None:
    """The same weights with the names the other way round, and without masks."""
    tile = rendered(1, TILE_PX, seed=1)[0]
    found = []
    for names in (("viable", "non_viable"), ("Non-viable", "viable")):
        folder = tmp_path / names[0]
        folder.mkdir()
        card = write_model(folder / "best.pt", names=names)
        model = Prepared(folder / "best.pt", card, tmp_path / "cache")
        (grains,) = model.detector(backend=backend, confidence=0.25).detect([tile])
        found.append(grains)
    assert len(found[0]) > 5
    assert np.array_equal(found[0].boxes, found[1].boxes)
    assert set(found[0].classes) == {0, 1}
    assert (found[0].classes + found[1].classes == 1).all()


def test_confidence_and_merging_are_those_of_the_settings(tmp_path: Path) -> None:
    card = write_model(tmp_path / "best.pt")
    model = Prepared(tmp_path / "best.pt", card, tmp_path / "cache")
    tile = rendered(1, TILE_PX, seed=1)[0]

    def found(**settings: object) -> Grains:
        return model.detector(backend="torch", **settings).detect([tile])[0]

    few, many = found(confidence=0.4), found(confidence=0.2)
    assert 0 < len(few) < len(many)
    assert few.confidence.min() >= 0.4
    apart, close = found(confidence=0.2, merge_iou=0.1), found(confidence=0.2, merge_iou=0.8)
    assert len(apart) < len(close)
    for row in range(len(apart)):
        by_union, _ = overlaps(apart.boxes[row], np.delete(apart.boxes, row, axis=0))
        assert (by_union <= 0.1).all()


def test_a_model_of_other_things_is_refused(tmp_path: Path) -> None:
    card = write_model(tmp_path / "best.pt", names=("cat", "dog"))
    model = Prepared(tmp_path / "best.pt", card, tmp_path / "cache")
    with pytest.raises(ModelError, match="model 'random' does not know our classes: unknown class"):
        model.detector(backend="torch")


def test_threads_take_turns(on_openvino: Detector, tiles: list[NDArray[np.uint8]]) -> None:
    """Two batches at once on one model: each gets its own grains."""
    alone = [on_openvino.detect([tile])[0] for tile in tiles]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda tile: on_openvino.detect([tile] * 3), tiles * 2))
    for place, answers in enumerate(together):
        assert all(equal(answer, alone[place % len(tiles)]) for answer in answers)
