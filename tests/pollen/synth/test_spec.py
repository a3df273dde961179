from dataclasses import replace

import numpy as np
import pytest

from pollen.synth import FrameSpec, random_spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width_px": 8}, "at least 16 x 16"),
        ({"n_grains": -1}, "can't be negative"),
        ({"grain_diameter_px": 3.0}, "at least 8 px"),
        ({"viable_fraction": 1.2}, "viable_fraction is a share"),
        ({"touching_fraction": -0.1}, "touching_fraction is a share"),
        ({"crop_xyxy_px": (0, 0, 700, 100)}, "does not lie inside the frame"),
    ],
)
def test_what_cannot_be_rendered_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FrameSpec(), **changes)  # type: ignore[arg-type]


def test_debris_is_counted_per_visible_area() -> None:
    assert FrameSpec().fields_of_view == 1.0
    assert FrameSpec(crop_xyxy_px=(0, 0, 320, 640)).fields_of_view == 0.5


def test_random_specs_follow_the_real_data() -> None:
    rng = np.random.default_rng(0)
    specs = [random_spec(rng) for _ in range(600)]
    counts = np.array([spec.n_grains for spec in specs])
    # Real pictures: 47 of 290 without grains, otherwise 1 to 50, median 6 to 9.
    assert 0.08 < (counts == 0).mean() < 0.25
    assert 5 <= np.median(counts[counts > 0]) <= 11
    assert counts.max() <= 120
    diameters = np.array([spec.grain_diameter_px for spec in specs])
    assert 40 < np.median(diameters[diameters < 56]) < 50
    assert 75 < np.median(diameters[diameters >= 56]) < 90
    levels = np.array([spec.background.rgb for spec in specs])
    np.testing.assert_allclose(levels.mean(axis=0), (208, 208, 211), atol=5)
    touching = np.array([spec.touching_fraction for spec in specs])
    assert 0.3 < touching.mean() < 0.5
    crops = np.mean([spec.crop_xyxy_px is not None for spec in specs])
    assert 0.02 < crops < 0.1


def test_a_larger_frame_gets_more_grains() -> None:
    rng = np.random.default_rng(1)
    counts = [random_spec(rng, 4140, 3096, 46.0).n_grains for _ in range(60)]
    assert 100 < np.median([c for c in counts if c]) < 600
    assert random_spec(rng, 4140, 3096, 46.0).grain_diameter_px == 46.0
