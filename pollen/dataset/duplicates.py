"""Pictures that are the same or nearly so, also turned, mirrored, resized or compressed again.

A perceptual hash finds candidates, and correlation confirms them. Both look at the picture's detail,
not at its light and dark: frames with few grains differ little in that, and would all be taken for one.

Measured on 290 micrographs: of copies (JPEG at quality 60, resized to 0.75 and 1.5, turned, mirrored) all
are found, of brightened ones 98 %; they differ in at most 27 of 256 bits and correlate at 0.93 or more.
Of 42,000 pairs of different pictures within 64 bits none correlates above 0.76.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pollen.arrays import Pixels

#: Bits of the hash: signs of the 16 x 16 lowest frequencies.
HASH_BITS: Final = 256
_FREQUENCIES: Final = 16
_SIDE_PX: Final = 64
#: Bits in which the hashes of two copies may differ.
MOST_BITS: Final = 36
#: Correlation that two copies have at least, over the whole picture.
LEAST_CORRELATION: Final = 0.85
#: And in half of its 4 x 4 parts: a burnt-in scale bar on two near-empty frames fills one part only.
LEAST_LOCAL: Final = 0.5
_PARTS: Final = 4
#: Sides of two copies differ by rounding only, as a proportion.
_MOST_ASPECT: Final = 1.05
_SYMMETRIES: Final = 8
#: Canvas is darker than this in all channels (compression leaves it not quite black), and covers more
#: of a picture than the dark rims of bubbles do.
_BLACK: Final = 24
_CANVAS_PART: Final = 0.05
_EDGE: Final = 25
#: Grey levels of variation below which a part has no detail: what is left of noise in a frame without grains.
_FLAT: Final = 0.01

#: Pictures that are compared at once, before those in a component that is found are passed over.
_CHUNK: Final = 64
#: What a quick correlation may be off by.
_ROUNDING: Final = 1e-3

Detail = NDArray[np.float32]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Look:
    """The look of a picture.

    Attributes:
        coarse: `(64, 64)` the green channel, where stained grains are darkest, without what varies
            over more than a quarter of the picture; the hash is taken of it.
        fine: The same without what varies over more than a sixteenth; copies are confirmed by it.
        aspect: Longer side by shorter side, the same however the picture is turned.
    """

    coarse: Detail
    fine: Detail
    aspect: float

    @classmethod
    def of(cls, pixels: Pixels) -> "Look":
        """Look at a picture, `(H, W, 3)` RGB."""
        shown = _without_canvas(pixels)
        height, width = shown.shape[:2]
        green = np.ascontiguousarray(shown[..., 1], dtype=np.float32)
        small = cv2.resize(green, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)
        coarse, fine = (
            np.asarray(small - cv2.GaussianBlur(small, (0, 0), _SIDE_PX / parts), np.float32)
            for parts in (4, 16)
        )
        return cls(coarse, fine, max(width, height) / min(width, height))

    @property
    def hash(self) -> str:
        """The perceptual hash, 64 hexadecimal digits."""
        return _hash(self.coarse).tobytes().hex()

    @property
    def turned_hashes(self) -> tuple[str, ...]:
        """Hashes of the picture turned and mirrored, the picture's own first."""
        return tuple(_hash(turned).tobytes().hex() for turned in _turned(self.coarse))

    def is_copy_of(self, other: "Look") -> bool:
        """Return whether the two show the same, turned, mirrored or neither."""
        if not 1 / _MOST_ASPECT <= self.aspect / other.aspect <= _MOST_ASPECT:
            return False
        return any(_agree(turned, other.fine) for turned in _turned(self.fine))


class Copies:
    """Finds copies among pictures, for one picture after another.

    A field of which somebody took a thousand frames has half a million pairs that look alike. Where a
    picture is a copy of one of them, it belongs to what they belong to: the others are not compared.
    """

    def __init__(
        self,
        looks: Mapping[str, str],
        turned: Mapping[str, Sequence[str]],
        look: Callable[[str], Look],
    ) -> None:
        """Note the pictures.

        Args:
            looks: Perceptual hash of every picture, by its id.
            turned: `Look.turned_hashes` of those that are queried. A pair of which neither is
                queried was compared before.
            look: Gives the look of a picture; called once, and only for those whose hash is near
                another's.
        """
        self.pairs: list[tuple[str, str]] = []
        self._ids = list(looks)
        self._places = {one: place for place, one in enumerate(looks)}
        self._stored = _as_words(list(looks.values()))
        self._queried = np.array([self._places[one] for one in turned], np.int64)
        queries = _as_words([one for eight in turned.values() for one in eight])
        self._queries = queries.reshape(len(turned), _SYMMETRIES, HASH_BITS // 64)
        self._query_of = {one: at for at, one in enumerate(turned)}
        self._look = look
        self._looks: dict[str, tuple[Look, Detail]] = {}

    def of(self, one: str, component: Callable[[str], str | None]) -> list[str]:
        """Return a copy of a picture in each component that has one.

        Args:
            one: The picture.
            component: What another picture belongs to; None if it takes no part.
        """
        found: dict[str, str] = {}
        waiting = [
            (other, place)
            for other in self._near(one)
            if other != one and (place := component(other)) is not None
        ]
        most = 1  # the first one confirms it, as a rule
        while waiting:
            turn, waiting, most = waiting[:most], waiting[most:], _CHUNK
            self._compare(one, turn, found)
            waiting = [(other, place) for other, place in waiting if place not in found]
        self.pairs += [(one, other) for other in found.values()]
        return list(found.values())

    def _compare(self, one: str, others: Sequence[tuple[str, str]], found: dict[str, str]) -> None:
        """Add the first copy in each component to what was found."""
        look, _ = self._kept_look(one)
        looks, units = zip(*(self._kept_look(other) for other, _ in others), strict=True)
        for at in np.flatnonzero(_may_agree(look, units)).tolist():
            other, place = others[at]
            if place not in found and look.is_copy_of(looks[at]):
                found[place] = other

    def _near(self, one: str) -> Iterator[str]:
        """Yield the pictures whose hash is near."""
        at = self._query_of.get(one)
        if at is not None:
            near = np.flatnonzero(_near(self._queries[at, None], self._stored)[0])
        else:
            own = self._stored[self._places[one], None]
            near = self._queried[_near(self._queries, own)[:, 0]]
        return (self._ids[place] for place in near.tolist())

    def _kept_look(self, one: str) -> tuple[Look, Detail]:
        """Return a look and its detail as a unit; only what is compared is kept: 32 KiB."""
        if one not in self._looks:
            look = self._look(one)
            self._looks[one] = replace(look, coarse=look.fine), _as_unit(look.fine)
        return self._looks[one]


def _hash(detail: Detail) -> NDArray[np.uint8]:
    """Return the signs of the lowest frequencies, `(32,)`; the mean carries nothing and is 0."""
    waves = cv2.dct(np.ascontiguousarray(detail))[:_FREQUENCIES, :_FREQUENCIES].copy()
    waves[0, 0] = 0
    return np.packbits(waves.ravel() > 0)


def _turned(detail: Detail) -> Iterator[Detail]:
    """Yield the eight symmetries of a square, the identity first."""
    for quarters in range(4):
        turned = np.rot90(detail, quarters)
        yield turned
        yield turned[:, ::-1]


def _without_canvas(pixels: Pixels) -> Pixels:
    """Return what lies on a black canvas; a picture without canvas is returned as it is.

    The canvas would be all that two small crops on one have in common, and enough.
    """
    red, green, blue = (pixels[..., channel] for channel in range(3))
    shown = np.maximum(np.maximum(red, green), blue) >= _BLACK
    if 1 - shown.mean() < _CANVAS_PART:
        return pixels
    rows, columns = (np.flatnonzero(shown.mean(axis=axis) > _CANVAS_PART) for axis in (1, 0))
    if not rows.size or not columns.size:
        return pixels
    # A little less than that: the edge itself changes when the picture is resized.
    (top, bottom), (left, right) = (
        (int(at[0]) + at.size // _EDGE, int(at[-1]) + 1 - at.size // _EDGE)
        for at in (rows, columns)
    )
    return pixels[top:bottom, left:right]


def _agree(one: Detail, other: Detail) -> bool:
    """Return whether two details correlate, over all and in half of those parts that are not flat."""
    if not _correlations(one[None], other[None])[0] >= LEAST_CORRELATION:
        return False
    parts = _correlations(_parts(one), _parts(other))
    return bool(np.nanmedian(parts) >= LEAST_LOCAL)


def _may_agree(one: Look, units: Sequence[Detail]) -> NDArray[np.bool_]:
    """Return `(N,)`, true for those that correlate over all, or nearly so: a quick test, which most near ones fail."""
    turned = np.stack([_as_unit(detail) for detail in _turned(one.fine)])
    correlations = np.stack(units) @ turned.T
    return np.asarray(correlations.max(axis=1) > LEAST_CORRELATION - _ROUNDING, np.bool_)


def _as_unit(detail: Detail) -> Detail:
    """Return `(h * w,)` of mean 0 and length 1; an even detail stays 0."""
    flat = detail.ravel() - detail.mean()
    return np.asarray(flat / (np.linalg.norm(flat) or 1), np.float32)


def _parts(detail: Detail) -> Detail:
    """Return `(16, 16, 16)`, the detail cut into 4 x 4 parts."""
    side = _SIDE_PX // _PARTS
    cut = detail.reshape(_PARTS, side, _PARTS, side).swapaxes(1, 2)
    return cut.reshape(_PARTS * _PARTS, side, side)


def _correlations(ones: Detail, others: Detail) -> NDArray[np.float64]:
    """Return Pearson's correlation of each pair, `(N, h, w)` each; NaN if both are flat, 0 if one is."""
    left, right = (
        (part - part.mean(axis=(1, 2), keepdims=True)).astype(np.float64) for part in (ones, others)
    )
    spreads = np.sqrt((left**2).mean(axis=(1, 2))), np.sqrt((right**2).mean(axis=(1, 2)))
    flat = np.minimum(*spreads) < _FLAT
    together = (left * right).mean(axis=(1, 2)) / np.where(flat, 1.0, spreads[0] * spreads[1])
    together[flat] = 0.0
    together[np.maximum(*spreads) < _FLAT] = np.nan
    return np.asarray(together, np.float64)


def _as_words(hashes: Sequence[str]) -> Hashes:
    """Return `(N, 4)` 64-bit words."""
    data = b"".join(bytes.fromhex(one) for one in hashes)
    return np.frombuffer(data, np.uint64).reshape(len(hashes), HASH_BITS // 64)


def _near(queries: Hashes, stored: Hashes) -> NDArray[np.bool_]:
    """Return `(queries, stored)`, true if any symmetry of a query is within `MOST_BITS`."""
    near = np.zeros((len(queries), len(stored)), np.bool_)
    for turn in range(_SYMMETRIES):
        bits = np.zeros(near.shape, np.uint16)
        for word in range(stored.shape[1]):
            bits += np.bitwise_count(queries[:, turn, word, None] ^ stored[None, :, word])
        near |= bits <= MOST_BITS
    return near
