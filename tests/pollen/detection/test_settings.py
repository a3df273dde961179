import json

import pytest
from pydantic import ValidationError

from pollen.detection.settings import DetectSettings, EdgeRule, OverlapRule


def test_defaults_are_the_contract() -> None:
    settings = DetectSettings()
    assert settings.edge_rule is EdgeRule.FRAME
    assert settings.overlap_rule is OverlapRule.COUNT
    assert (settings.device, settings.backend, settings.precision) == ("auto", "auto", "auto")
    assert settings.confidence is None
    assert settings.merge_iou is None
    assert settings.grain_diameter_px is None
    assert settings.pixel_size_um is None


def test_every_field_is_explained_in_the_form() -> None:
    for name, shown in DetectSettings.model_json_schema()["properties"].items():
        assert shown.get("description"), f"{name} has no description"


def test_json_round_trip() -> None:
    settings = DetectSettings(edge_rule=EdgeRule.EXCLUDE, confidence=0.4, grain_diameter_px=92)
    assert DetectSettings.model_validate_json(settings.model_dump_json()) == settings
    assert json.loads(settings.model_dump_json())["edge_rule"] == "exclude"


@pytest.mark.parametrize(
    "wrong",
    [
        {"edge_rule": "left"},
        {"overlap_rule": "drop"},
        {"overlap_fraction": 0},
        {"overlap_fraction": 1.01},
        {"confidence": 0},
        {"confidence": 1},
        {"merge_iou": 0},
        {"grain_diameter_px": 4},
        {"grain_diameter_px": 2001},
        {"pixel_size_um": 0},
        {"pixel_size_um": float("nan")},
        {"pixel_size_um": float("inf")},
        {"grain_diameter_px": float("nan")},
        {"device": "cuda:7"},
        {"backend": "onnx"},
        {"precision": "int8"},
        {"batch_images": 0},
        {"io_threads": 0},
        {"memory_megapixels": 0},
        {"frame_max_megapixels": float("inf")},
        {"sample_pattern": "(unfinished"},
        {"edge_rul": "all"},
    ],
)
def test_wrong_values_and_unknown_names_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DetectSettings.model_validate(wrong)


def test_settings_can_not_change_during_a_run() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        DetectSettings().confidence = 0.9  # type: ignore[misc]
