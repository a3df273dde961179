"""Places for the grains of a frame: alone, or in pairs, chains and clusters that touch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import cos, pi, sin

import numpy as np

from pollen.synth.outlines import RadialOutline
from pollen.synth.truth import clip_polygon, polygon_area

Box = tuple[float, float, float, float]

_TRIES = 40
_LEAST_VISIBLE_SHARE = 0.08
_LEAST_VISIBLE_PX = 4.0


class Field:
    """The grains placed so far, by position (in cells of the size of the largest grain)."""

    def __init__(self, box_xyxy: Box, cell_px: float) -> None:
        """Start an empty field.

        Args:
            box_xyxy: The part of the frame in which grains are visible.
            cell_px: At least the largest distance at which two grains can touch.
        """
        self.box_xyxy = box_xyxy
        self.placed: dict[int, RadialOutline] = {}
        self._cell_px = cell_px
        self._cells: defaultdict[tuple[int, int], list[int]] = defaultdict(list)

    def add(self, index: int, outline: RadialOutline) -> None:
        """Add a grain at its place."""
        self.placed[index] = outline
        self._cells[self._cell(outline)].append(index)

    def neighbours(self, outline: RadialOutline) -> Iterator[RadialOutline]:
        """Yield the placed grains that could touch this one."""
        column, row = self._cell(outline)
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):
                for index in self._cells.get((column + dx, row + dy), ()):
                    yield self.placed[index]

    def has_room(self, outline: RadialOutline, least_gap_px: float) -> bool:
        """Return whether no placed grain comes closer to this one (negative: overlaps deeper)."""
        for other in self.neighbours(outline):
            reach = outline.reach_px + other.reach_px + least_gap_px
            if abs(outline.x - other.x) > reach or abs(outline.y - other.y) > reach:
                continue
            if outline.gap_px(other) < least_gap_px:
                return False
        return True

    def shows(self, outline: RadialOutline) -> bool:
        """Return whether enough of the grain is inside the frame for a person to count it."""
        clipped = clip_polygon(outline.polygon, self.box_xyxy)
        if len(clipped) < 3:
            return False
        if np.ptp(clipped, axis=0).min() < _LEAST_VISIBLE_PX:
            return False
        return polygon_area(clipped) >= _LEAST_VISIBLE_SHARE * polygon_area(outline.polygon)

    def _cell(self, outline: RadialOutline) -> tuple[int, int]:
        return int(outline.x // self._cell_px), int(outline.y // self._cell_px)


def place(
    rng: np.random.Generator, outlines: list[RadialOutline], box_xyxy: Box, touching_fraction: float
) -> dict[int, RadialOutline]:
    """Find a place for each grain; the outlines come around (0, 0).

    About `touching_fraction` of the grains are put in groups whose outlines meet, the others
    apart. A grain without room is left out.

    Returns:
        Placed outlines by their position in `outlines`.
    """
    if not outlines:
        return {}
    field = Field(box_xyxy, cell_px=2.0 * max(o.reach_px for o in outlines) + 4.0)
    start = 0
    for size in _group_sizes(rng, len(outlines), touching_fraction):
        _place_group(rng, field, list(range(start, start + size)), outlines)
        start += size
    return field.placed


def _group_sizes(rng: np.random.Generator, n: int, touching_fraction: float) -> list[int]:
    """Draw the sizes of groups: mostly pairs, sometimes a cluster of ten; then single grains."""
    wanted = round(n * touching_fraction + rng.uniform(-0.5, 0.5))
    sizes: list[int] = []
    mean_extra = rng.choice([0.4, 1.0, 3.0])
    while sum(sizes) + 2 <= min(wanted, n):
        size = 2 + int(rng.geometric(1.0 / (1.0 + mean_extra))) - 1
        sizes.append(min(size, n - sum(sizes)))
    return sizes + [1] * (n - sum(sizes))


def _place_group(
    rng: np.random.Generator, field: Field, members: list[int], outlines: list[RadialOutline]
) -> None:
    """Place the first grain of a group apart from all others and the rest against it."""
    group: list[int] = []
    for index in members:
        outline = outlines[index]
        found = _beside(rng, field, outline, group) if group else None
        if found is None:
            found = _apart(rng, field, outline)
        if found is not None:
            field.add(index, found)
            group.append(index)


def _apart(rng: np.random.Generator, field: Field, outline: RadialOutline) -> RadialOutline | None:
    x0, y0, x1, y1 = field.box_xyxy
    beyond = 0.8 * outline.reach_px
    for attempt in range(_TRIES):
        moved = outline.moved(
            rng.uniform(x0 - beyond, x1 + beyond), rng.uniform(y0 - beyond, y1 + beyond)
        )
        gap = 3.0 if attempt < _TRIES * 3 // 4 else -0.05 * outline.radius_px
        if field.has_room(moved, gap) and field.shows(moved):
            return moved
    return None


def _beside(
    rng: np.random.Generator, field: Field, outline: RadialOutline, group: list[int]
) -> RadialOutline | None:
    for _ in range(_TRIES):
        anchor = field.placed[group[int(rng.integers(len(group)))]]
        angle = rng.uniform(0.0, 2.0 * pi)
        overlap = rng.choice([0.0, 0.03, 0.08, 0.2], p=[0.42, 0.31, 0.18, 0.09])
        distance = anchor.radius_towards(angle) + outline.radius_towards(angle + pi)
        distance -= overlap * min(outline.radius_px, anchor.radius_px)
        moved = outline.moved(anchor.x + distance * cos(angle), anchor.y + distance * sin(angle))
        least = -(overlap + 0.06) * outline.radius_px - 0.5
        if field.has_room(moved, least) and field.shows(moved):
            return moved
    return None
