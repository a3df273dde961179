"""What a rendered frame should look like: plain values, and how to draw them like the real data.

The numbers follow the statistics of real Alexander-stained micrographs (640 px pictures of
one laboratory): grain diameters of about 46 px or 75 to 110 px, background grey levels of 175
to 245, 40 % of the grains touching, 1 to 50 grains in a picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np

RGB = tuple[float, float, float]
"""A colour as red, green, blue in grey levels 0 to 255."""


class EmptyLook(Enum):
    """How a non-viable grain fails to be full."""

    GHOST = "ghost"
    """Nearly as bright as the background, with a dark wall."""
    FOLDED = "folded"
    """Pink, with one to four creases of darker magenta."""
    RIBBED = "ribbed"
    """Parallel ribs or open furrows along the grain."""
    CRUMPLED = "crumpled"
    """Irregular outline, wrinkled all over."""
    RESIDUE = "residue"
    """A shrunken stained lump inside an empty wall."""
    SPLIT = "split"
    """Two halves of different colour and a sharp line between them."""
    DARK = "dark"
    """Brown to purple with a broad, nearly black edge."""
    LOBED = "lobed"
    """Two or three lobes with deep furrows between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stain:
    """Colours of the grains of one slide."""

    viable_rgb: RGB = (159.0, 24.0, 85.0)
    """Mean colour inside a viable grain."""
    viable_spread: float = 0.10
    """Standard deviation between grains of the optical density, as a share of it."""
    pale_share: float = 0.05
    """Share of the viable grains that took only half of the stain (pink, but full)."""
    non_viable_rgb: RGB = (168.0, 101.0, 126.0)
    """Mean colour inside a non-viable grain."""
    looks: tuple[EmptyLook, ...] = tuple(EmptyLook)
    """Looks the non-viable grains of this slide are drawn from."""
    flecks: float = 0.2
    """Strength of the orange net inside viable grains, 0 to 1."""
    granularity: float = 0.4
    """Strength of the fine grain of the contents, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optics:
    """Microscope and camera."""

    blur_px: float = 0.8
    """Standard deviation of the blur of the whole frame, px."""
    defocus_spread_px: float = 0.5
    """Scale of the additional blur of single grains and debris, px."""
    light_angle_deg: float = 225.0
    """Direction of the dark limb as seen from the grain's centre (0 right, 90 down)."""
    limb: float = 0.5
    """Strength of the dark limb on that side, 0 to 1."""
    black_edge: float = 0.0
    """Strength of a broad, nearly black edge all around, 0 to 1."""
    halo: float = 0.4
    """Strength of the bright ring outside the wall, 0 to 1."""
    exine: float = 0.5
    """Contrast of the toothed wall, 0 to 1."""
    fringe_px: float = 0.6
    """Shift between the red and the blue picture (yellow and blue edges), px."""
    sharpening: float = 0.4
    """Amount of the camera's unsharp mask, 0 to 1."""
    noise_levels: float = 0.3
    """Standard deviation of the sensor noise after the camera's smoothing, grey levels."""
    jpeg_quality: int | None = 95
    """Quality of one JPEG (4:2:0) round trip; None keeps the pixels as rendered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """The empty slide."""

    rgb: RGB = (208.0, 208.0, 211.0)
    """Mean colour."""
    gradient_levels: float = 8.0
    """Difference between opposite sides of the frame, grey levels."""
    vignette_levels: float = 3.0
    """Fall-off from the centre to the corners, grey levels."""
    mottle_levels: float = 0.8
    """Standard deviation of slow, cloudy unevenness, grey levels."""
    rings: float = 1.0
    """Expected number of faint diffraction ring systems in 640 x 640 px."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Debris:
    """Expected number of each kind of debris in 640 x 640 px; none of it is a grain."""

    flakes: float = 0.8
    """Magenta flakes and shreds of tissue: the most confusable kind."""
    clumps: float = 0.2
    """Granular stained lumps, often of the size of a grain."""
    smears: float = 0.3
    """Faint pink clouds of stain, out of focus."""
    crystals: float = 2.0
    """Colourless crumbs and clusters of them, seen by their relief."""
    specks: float = 15.0
    """Specks of a few pixels."""
    bubbles: float = 0.3
    """Air bubbles with a black ring, from half a grain to many grains across."""
    fibres: float = 0.1
    """Hairs and fibres."""
    tissue: float = 0.05
    """Pale sheets and chains of empty cells."""
    ghosts: float = 4.0
    """Droplets and dust far above the focus: faint soft rings."""
    dust: float = 0.05
    """Dark dust on the optics, far out of focus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSpec:
    """One frame to render; with a seed it fixes every pixel.

    `random` draws one like the real data; every field can be given by hand as well.
    """

    width_px: int = 640
    height_px: int = 640
    n_grains: int = 12
    """Grains wanted in the frame; fewer where they find no room without piling up."""
    viable_fraction: float = 0.8
    """Share of the grains that are viable (rounded up or down by the seed)."""
    grain_diameter_px: float = 46.0
    """Median equivalent diameter of the viable grains, px."""
    size_spread: float = 0.06
    """Standard deviation of the logarithm of the diameter."""
    empty_size_ratio: float = 0.85
    """Median diameter of the non-viable grains as a share of that of the viable ones."""
    touching_fraction: float = 0.4
    """Share of the grains placed in pairs, chains and clusters."""
    scale_bar: bool = False
    """Burn a black scale bar and its length into the lower right corner."""
    pixel_size_um: float | None = None
    """Width of a pixel, µm; the scale bar is drawn for it. None: unknown to the reader."""
    crop_xyxy_px: tuple[int, int, int, int] | None = None
    """Only this part shows the slide, the rest is plain canvas (the `_pad_` pictures)."""
    canvas_level: int = 0
    """Grey level of that canvas."""
    stain: Stain = field(default_factory=Stain)
    optics: Optics = field(default_factory=Optics)
    background: Background = field(default_factory=Background)
    debris: Debris = field(default_factory=Debris)

    def __post_init__(self) -> None:
        """Refuse what can't be rendered.

        Raises:
            ValueError: a size, count or share is outside its range.
        """
        if self.width_px < 16 or self.height_px < 16:
            raise ValueError(
                f"a frame needs at least 16 x 16 px, got {self.width_px} x {self.height_px}"
            )
        if self.n_grains < 0:
            raise ValueError(f"n_grains counts grains and can't be negative: {self.n_grains}")
        if self.grain_diameter_px < 8:
            raise ValueError(
                f"grain_diameter_px must be at least 8 px to show a grain: {self.grain_diameter_px}"
            )
        for name in ("viable_fraction", "touching_fraction"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a share from 0 to 1, got {getattr(self, name)}")
        x0, y0, x1, y1 = self.visible_xyxy_px
        if not (0 <= x0 < x1 <= self.width_px and 0 <= y0 < y1 <= self.height_px):
            raise ValueError(
                f"crop_xyxy_px {self.crop_xyxy_px} does not lie inside the frame of "
                f"{self.width_px} x {self.height_px} px"
            )

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        width_px: int = 640,
        height_px: int = 640,
        grain_diameter_px: float | None = None,
    ) -> FrameSpec:
        """Draw a spec like the real data, empty, crowded and cropped frames included.

        Args:
            rng: source of all choices.
            width_px: width of the frame.
            height_px: height of the frame.
            grain_diameter_px: median diameter of the viable grains; None draws one of the two
                magnifications in use.
        """
        from pollen.synth.draw import random_spec  # the draws are made of this module's values

        return random_spec(rng, width_px, height_px, grain_diameter_px)

    @property
    def visible_xyxy_px(self) -> tuple[int, int, int, int]:
        """The part of the frame that shows the slide: x0, y0, x1, y1 in px."""
        return self.crop_xyxy_px or (0, 0, self.width_px, self.height_px)

    @property
    def fields_of_view(self) -> float:
        """Visible area in units of 640 x 640 px, in which debris is counted."""
        x0, y0, x1, y1 = self.visible_xyxy_px
        return (x1 - x0) * (y1 - y0) / 640.0**2
