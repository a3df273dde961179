"""Frames on their way through the model."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import pytest
from numpy.typing import NDArray

from pollen.arrays import FloatArray
from pollen.detection.decoding import Decoder, OutputError
from pollen.detection.detector import Detector
from pollen.detection.grains import Grains
from pollen.detection.pipeline import Flush, detect_frames
from tests.pollen.grain_making import equal
from tests.pollen.model_making import rendered


@dataclass
class Shown:
    """A frame in memory that may break when it is read."""

    pixels: NDArray[np.uint8]
    breaks: Exception | None = None
    pixel_size_um: float | None = None
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


def test_frames_come_back_in_order_whatever_their_size(on_openvino: Detector) -> None:
    frames = [
        Shown(np.tile(pixels, (n % 3 + 1, 2, 1))) for n, pixels in enumerate(rendered(4, 500))
    ]
    together = list(detect_frames(frames, on_openvino))
    assert [frame for frame, _ in together] == frames
    for frame, found in together:
        (alone,) = detect_frames([frame], on_openvino)
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
    results = list(detect_frames(frames, on_openvino))
    assert [frame for frame, _ in results] == frames
    assert results[1][1] is error
    assert isinstance(results[0][1], Grains)
    assert isinstance(results[2][1], Grains)


def test_a_tile_whose_output_can_not_be_used_costs_one_frame(
    on_openvino: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [Shown(pixels) for pixels in rendered(3, 300)]
    alone = [found for _, found in detect_frames(frames, on_openvino)]
    decode, calls = Decoder.decode, count(1)

    def spoilt(self: Decoder, raw: FloatArray, prototypes: FloatArray | None) -> Grains:
        overflowed = np.where(next(calls) == 2, np.nan, raw).astype(np.float32)
        return decode(self, overflowed, prototypes)

    monkeypatch.setattr(Decoder, "decode", spoilt)
    results = list(detect_frames(frames, on_openvino))
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

    results = detect_frames(frames(), on_openvino)
    next(results)
    assert taken <= on_openvino.batch


def test_a_flush_runs_what_waits(on_openvino: Detector) -> None:
    asked: list[str] = []

    def frames() -> Iterator[Shown | Flush]:
        yield Shown(rendered(1, 300)[0])
        yield Flush.NOW
        asked.append("after the result")
        yield Shown(rendered(1, 300)[0])

    results = detect_frames(frames(), on_openvino)
    next(results)
    assert not asked
