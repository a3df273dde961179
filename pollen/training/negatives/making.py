"""Pictures without any grain: debris put on backgrounds of real frames.

Light multiplies: what a piece lets through is multiplied into the frame's own light, so its colours
fit whatever the tint. Negative `i` of a seed has the same bytes whenever the same pictures go in,
in whatever order and under whatever names.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pollen.arrays import FloatArray, Pixels
from pollen.dataset.findings import DatasetFinding
from pollen.errors import PollenError
from pollen.frames import FrameError, open_frames
from pollen.frames.limits import check_whole_size
from pollen.training.collage import Outline, fill_outlines, paste, placement
from pollen.training.negatives.backgrounds import debris_of, empty_frame, window_of
from pollen.training.negatives.cutouts import Piece, find_pieces

SCALES: Final = (0.6, 1.5)
"""Smallest and largest enlargement of a piece; both magnifications of the microscope lie within."""
MOST_PIECES: Final = 5
LEAST_SIDE_PX: Final = 64
"""Smallest side of a negative, pixels."""
WINDOWS: Final = 4
"""Parts of a large frame that may be a background."""
MOST_PIXELS: Final = 50_000_000
"""Largest picture of debris, pixels."""
MOST_FRAMES: Final = 20
"""So many pages or scenes of one file are looked at."""
FALLBACK_FRAMES: Final = 60
"""So many train pictures are searched for debris where nobody gave pictures of it."""

_NOTHING_FOUND: Final = (
    "no debris could be cut out: expected a picture of flakes, fibres or bubbles on an even ground; "
    "objects that look like grains, fill the picture from side to side or are a scale bar are left out. "
    "Crop the picture more widely, or remove it"
)
_FALLBACK: Final = (
    "no usable picture of debris: the negatives show debris found among the grains of train "
    "pictures. Pictures of what the model mistakes for grains would teach it more"
)
_NO_DEBRIS: Final = (
    "no usable picture of debris, and none found among the grains of train pictures: the negatives "
    "show empty background"
)


@dataclass(frozen=True)
class DebrisPicture:
    """A picture of debris, `(H, W, 3)` RGB, read with `pollen.frames`."""

    name: str
    pixels: Pixels


@dataclass(frozen=True)
class Background:
    """A labelled picture of the train split.

    Attributes:
        key: Its name or key.
        fingerprint: Hash of the picture and its labels.
        load: Gives the pixels `(H, W, 3)` RGB and the labelled grains, in pixels.
    """

    key: str
    fingerprint: str
    load: Callable[[], tuple[Pixels, Sequence[Outline]]]


@dataclass(frozen=True)
class DebrisStock:
    """Pieces of debris and where they come from.

    Attributes:
        pieces: What can be pasted.
        findings: Pictures in which nothing could be used, and whether train pictures had to help.
    """

    pieces: tuple[Piece, ...]
    findings: tuple[DatasetFinding, ...] = ()


@dataclass(frozen=True)
class Negative:
    """A picture without any grain.

    Attributes:
        name: File name, `neg_syn_<seed>_<number>.png`.
        pixels: `(S, S, 3)` RGB.
        sources: Key of the background, then the names of the pictures of debris.
    """

    name: str
    pixels: Pixels
    sources: tuple[str, ...]


def read_debris(path: Path, name: str) -> tuple[list[DebrisPicture], list[DatasetFinding]]:
    """Read a file of pictures of debris; what can't be read is a finding.

    Args:
        path: The file.
        name: The file as the user knows it.
    """
    try:
        with open_frames(path, name, max_pixels=MOST_PIXELS) as file:
            frames = file.frames[:MOST_FRAMES]
            for frame in frames:
                # Slides are read by region, so their size was not checked on opening.
                check_whole_size(frame.width_px, frame.height_px, MOST_PIXELS)
            return [DebrisPicture(frame.name, frame.read()) for frame in frames], []
    except FrameError as error:
        return [], [DatasetFinding.warning(name, f"not used for negatives: {error}")]


def gather_debris(
    pictures: Iterable[DebrisPicture], backgrounds: Sequence[Background], folder: str
) -> DebrisStock:
    """Cut the debris out of pictures of it, or out of train pictures if that gives nothing.

    Args:
        pictures: Pictures of debris; looked at one by one.
        backgrounds: Pictures of the train split.
        folder: What findings call the place of the pictures.
    """
    found: dict[str, list[Piece]] = {}
    findings = []
    for picture in pictures:
        pieces = find_pieces(picture.name, picture.pixels)
        found.setdefault(_hash(picture.pixels), pieces)  # the same picture twice counts once
        if not pieces:
            findings.append(DatasetFinding.warning(picture.name, _NOTHING_FOUND))
    stock = [piece for key in sorted(found) for piece in found[key]]
    if not stock:
        for background in sorted(backgrounds, key=_by_content)[:FALLBACK_FRAMES]:
            stock += debris_of(background.key, *background.load())
        findings.append(DatasetFinding.note(folder, _FALLBACK if stock else _NO_DEBRIS))
    return DebrisStock(tuple(stock), tuple(findings))


def make_negatives(
    debris: DebrisStock, backgrounds: Sequence[Background], count: int, *, seed: int, side_px: int
) -> Iterator[Negative]:
    """Make pictures without grains, one at a time.

    Args:
        debris: Pieces of debris. Without any the pictures show empty background.
        backgrounds: Pictures of the train split, and of no other: what a model is tested on must
            not have been seen in training.
        count: How many.
        seed: Start of all randomness.
        side_px: Side of the pictures, pixels; a half or a quarter of it where no background is as
            large.

    Raises:
        PollenError: If no picture can be a background.
    """
    in_order = tuple(sorted(backgrounds, key=_by_content))
    maker = _Maker(debris.pieces, in_order, seed, side_px)
    while count and not maker.has_background():
        side_px //= 2
        if side_px < LEAST_SIDE_PX:
            raise PollenError(
                f"none of the {len(backgrounds)} train pictures can be a background for negatives: expected at "
                f"least one of {LEAST_SIDE_PX} px or more that grains cover by less than half; add such a "
                "picture or set negatives to 0"
            )
        maker = _Maker(debris.pieces, in_order, seed, side_px)
    for number in range(count):
        yield maker.make(number)


def _by_content(background: Background) -> tuple[str, str]:
    return background.fingerprint, background.key


def _hash(*arrays: NDArray[np.generic]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Maker:
    pieces: tuple[Piece, ...]
    backgrounds: tuple[Background, ...]
    seed: int
    side_px: int
    _start: int = field(init=False)
    _weights: NDArray[np.float64] = field(init=False)
    _emptied: Callable[[int, int], Pixels | None] = field(init=False)

    def __post_init__(self) -> None:
        # Specks are many and teach little: the chance of a piece grows with its size.
        diameters = np.array([piece.cutout.outline.diameter_px for piece in self.pieces])
        object.__setattr__(self, "_weights", diameters / max(diameters.sum(), 1))
        digest = hashlib.sha256()
        for background in self.backgrounds:
            digest.update(background.fingerprint.encode())
        for piece in self.pieces:
            digest.update(_hash(piece.cutout.transmittance, piece.cutout.alpha).encode())
        object.__setattr__(self, "_start", int.from_bytes(digest.digest()[:8], "big"))
        object.__setattr__(self, "_emptied", lru_cache(maxsize=16)(self._empty))

    @property
    def _least_px(self) -> int:
        """Smallest side of a background: what is missing is mirrored, which must not catch the eye."""
        return 3 * self.side_px // 4

    def has_background(self) -> bool:
        """Return whether any part of any frame can be a background."""
        places = itertools.product(range(WINDOWS), range(len(self.backgrounds)))
        return any(self._emptied(index, window) is not None for window, index in places)

    def make(self, number: int) -> Negative:
        """Return negative `number`."""
        rng = np.random.default_rng([self.seed, number, self._start])
        key, canvas = self._background(rng)
        veil = np.ones_like(canvas)
        taken = np.zeros(canvas.shape[:2], np.uint8)
        sources = [key]
        for _ in range(int(rng.integers(1, MOST_PIECES + 1)) if self.pieces else 0):
            piece = self.pieces[int(rng.choice(len(self.pieces), p=self._weights))]
            if self._put(piece, veil, taken, rng) and piece.source not in sources:
                sources.append(piece.source)
        if rng.random() < 0.4:  # out of focus, as debris above or below the grains is
            veil = np.asarray(cv2.GaussianBlur(veil, (0, 0), rng.uniform(0.4, 1.6)), np.float32)
        # Thinner or thicker debris: the exponent of Beer and Lambert, which keeps the colour.
        canvas *= np.clip(veil, 0, None) ** np.float32(rng.uniform(0.8, 1.25))
        pixels = np.clip(np.round(canvas), 0, 255).astype(np.uint8)
        return Negative(f"neg_syn_{self.seed}_{number:05d}.png", pixels, tuple(sources))

    def _empty(self, index: int, window: int) -> Pixels | None:
        """Return one of a few windows of a background without its grains; None if it can't be used."""
        pixels, grains = self.backgrounds[index].load()
        side_px = 2 * self.side_px
        if window and max(pixels.shape[:2]) <= side_px:
            return None  # the frame has one window only
        rng = np.random.default_rng([self.seed, index, window])
        return empty_frame(*window_of(pixels, grains, side_px, rng), self._least_px)

    def _background(self, rng: np.random.Generator) -> tuple[str, FloatArray]:
        """Return a part of a frame without grains, turned by quarters and mirrored, which keeps its noise."""
        for place in rng.permutation(len(self.backgrounds) * WINDOWS):
            index, window = divmod(int(place), WINDOWS)
            frame = self._emptied(index, window)
            if frame is not None:
                canvas = np.rot90(self._cropped(frame, rng), int(rng.integers(4)))
                canvas = canvas[:, ::-1] if rng.random() < 0.5 else canvas
                return self.backgrounds[index].key, np.ascontiguousarray(canvas, np.float32)
        raise AssertionError("make_negatives looked for a background first")

    def _cropped(self, frame: Pixels, rng: np.random.Generator) -> Pixels:
        """Return a square of a frame; a smaller frame is continued mirrored at its right and lower border."""
        height, width = frame.shape[:2]
        down, right = max(self.side_px - height, 0), max(self.side_px - width, 0)
        frame = np.pad(frame, ((0, down), (0, right), (0, 0)), mode="symmetric")
        y = int(rng.integers(frame.shape[0] - self.side_px + 1))
        x = int(rng.integers(frame.shape[1] - self.side_px + 1))
        return frame[y : y + self.side_px, x : x + self.side_px]

    def _put(self, piece: Piece, veil: FloatArray, taken: Pixels, rng: np.random.Generator) -> bool:
        """Paste debris where it hides no other: two together might look like one. Return whether it fitted."""
        x0, y0, x1, y1 = piece.cutout.outline.box
        longest = max(x1 - x0, y1 - y0)
        low, high = np.log(SCALES)
        scale = min(float(np.exp(rng.uniform(low, high))), 0.9 * self.side_px / longest)
        mirrored = bool(rng.random() < 0.5)
        for _ in range(4):
            if piece.cut_sides:
                affine = self._at_border(piece, scale, mirrored, rng)
            else:
                x, y = rng.uniform(0.04, 0.96, 2) * self.side_px
                turn = float(rng.uniform(0, 360))
                affine = placement(piece.cutout, (float(x), float(y)), scale, turn, mirrored)
            own = fill_outlines(
                (taken.shape[0], taken.shape[1]), [piece.cutout.outline.moved(affine)]
            )
            if not (own & taken).any():
                paste(veil, piece.cutout, affine)
                taken |= own
                return True
        return False

    def _at_border(
        self, piece: Piece, scale: float, mirrored: bool, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return the placement of debris that its picture cut: against the border, the cut side outwards."""
        turn = 90.0 * int(rng.integers(4))
        affine = placement(piece.cutout, (0.0, 0.0), scale, turn, mirrored)
        x0, y0, x1, y1 = piece.cutout.outline.moved(affine).box
        outward = np.round(np.array(piece.cut_sides) @ affine[:, :2].T / scale).sum(axis=0)
        for axis, (low, high) in enumerate(((x0, x1), (y0, y1))):
            if outward[axis] < 0:
                affine[axis, 2] -= low + 3 * scale
            elif outward[axis] > 0:
                affine[axis, 2] += self.side_px - high + 3 * scale
            else:
                affine[axis, 2] += rng.uniform(0.05, 0.95) * self.side_px
        return affine
