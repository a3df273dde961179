import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pollen.synth.outlines import full_outline
from pollen.synth.placement import _group_sizes, place
from pollen.synth.truth import clip_polygon, polygon_area

BOX = (0.0, 0.0, 400.0, 300.0)


@given(n=st.integers(0, 400), fraction=st.floats(0, 1), seed=st.integers(0, 99))
def test_groups_share_out_every_grain(n: int, fraction: float, seed: int) -> None:
    sizes = _group_sizes(np.random.default_rng(seed), n, fraction)
    assert sum(sizes) == n
    assert all(size >= 1 for size in sizes)
    if fraction == 0.0:
        assert set(sizes) <= {1}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 25), fraction=st.floats(0, 1))
def test_every_placed_grain_can_be_seen_and_told_apart(seed: int, n: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    placed = place(rng, [full_outline(rng, 40.0) for _ in range(n)], BOX, fraction)
    assert set(placed) <= set(range(n))
    for outline in placed.values():
        visible = clip_polygon(outline.polygon, BOX)
        assert polygon_area(visible) >= 0.08 * polygon_area(outline.polygon)
        assert np.ptp(visible, axis=0).min() >= 4.0
        for other in placed.values():
            if other is not outline:
                assert np.hypot(outline.x - other.x, outline.y - other.y) > 25.0


def test_no_grains_need_no_room() -> None:
    assert place(np.random.default_rng(0), [], BOX, 0.5) == {}
