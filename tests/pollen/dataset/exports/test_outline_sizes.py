"""Outlines far larger than the others."""

from tests.pollen.dataset.making import encoded, picture, pixels, read, roboflow


def test_outlines_far_larger_than_the_others_are_told_with_their_line() -> None:
    small = "".join(f"0 0.{place} 0.5 0.1 0.1\n" for place in range(1, 9))
    files = roboflow(
        {"a.png": picture(1), "b.png": encoded(pixels(2, 256))},
        {"a.png": f"{small}0 0.5 0.5 0.39 0.39\n1 0.5 0.5 1 1\n", "b.png": "0 0.5 0.5 0.2 0.2\n"},
    )
    export = read(files)
    assert export.is_usable
    whole, in_another_picture = export.findings
    assert whole.where == "a.zip/train/labels/a.txt, line 10"
    assert "an outline of 64 px, 10 times the median of 6 px" in whole.message
    assert in_another_picture.where == "a.zip/train/labels/b.txt, line 1"
    many = read(roboflow({"a.png": picture(1)}, {"a.png": small * 5 + "0 0.5 0.5 1 1\n"}))
    assert sum("times the median" in found.message for found in many.findings) == 1


def test_not_every_large_outline_is_told() -> None:
    places = [(x, y) for x in range(1, 9) for y in range(1, 9)]
    small = "".join(f"0 0.{x} 0.{y} 0.02 0.02\n" for x, y in places)
    large = "".join(f"0 0.{x} 0.5 0.2 0.{y}\n" for x, y in places[8:38])
    export = read(roboflow({"a.png": picture(1)}, {"a.png": small + large}))
    assert len(export.findings) == 21
    assert "10 more outlines" in export.findings[0].message
