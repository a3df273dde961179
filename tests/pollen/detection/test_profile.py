"""Profiles: their fingerprints, and how they cut frames."""

from dataclasses import replace

import pytest

from pollen.detection import profile as module
from pollen.detection.profile import DeviceError, Profile
from pollen.detection.settings import DetectSettings
from pollen.detection.tiling import ScaleError
from pollen.models.card import ModelCard

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
def test_a_run_on_another_machine_is_trained_what_that_has(
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
    card: dict[str, object],
    settings: dict[str, object],
    pixel_size_um: float | None,
    scale: float,
) -> None:
    trained = CARD.model_copy(update={"tile_px": 640} | card)
    wanted = DetectSettings.model_validate({"device": "cpu"} | settings)
    grid = Profile.resolve(trained, wanted).grid(pixel_size_um)
    assert grid.scale == pytest.approx(scale)
    # The largest expected grain is as large for the model whatever the scale of the frame.
    assert grid.largest_grain_px * grid.scale == pytest.approx(
        trained.max_grain_px * trained.working_scale
    )


def test_a_stated_pixel_size_is_for_files_that_state_none() -> None:
    profile = Profile.resolve(CARD, DetectSettings(device="cpu", pixel_size_um=0.8))
    assert profile.known_pixel_size_um(None) == 0.8
    assert profile.known_pixel_size_um(0.2) == 0.2
    assert profile.grid().scale == pytest.approx(2.0)
    assert profile.grid(0.2).scale == pytest.approx(0.5)


def test_a_frame_too_small_for_the_stated_grains_is_refused() -> None:
    profile = Profile.resolve(CARD, DetectSettings(device="cpu"))
    assert profile.grid(None, (20, 10)).scale == profile.grid().scale
    stated = replace(profile, grain_diameter_px=300.0)
    assert stated.grid(None, (600, 20)).scale == stated.grid().scale
    with pytest.raises(ScaleError, match=r"599 x 480 px, less than 2 grains of the stated 300 px"):
        stated.grid(None, (599, 480))
