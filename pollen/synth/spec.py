"""The looks of a rendered frame, as plain values.

The numbers follow the statistics of real Alexander-stained micrographs (640 px pictures of
one laboratory): grain diameters of about 46 px or 75 to 110 px, background grey levels of 175
to 245, 40 % of the grains touching, 1 to 50 grains in a picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

#: A colour as red, green, blue in grey levels 0 to 255.
RGB = tuple[float, float, float]


class EmptyLook(Enum):
    """The ways in which a non-viable grain fails to be full.

    Attributes:
        GHOST: Nearly as bright as the background, with a dark wall.
        FOLDED: Pink, with one to four creases of darker magenta.
        RIBBED: Parallel ribs or open furrows along the grain.
        CRUMPLED: Irregular outline, wrinkled all over.
        RESIDUE: A shrunken stained lump inside an empty wall.
        SPLIT: Two halves of different colour and a sharp line between them.
        DARK: Brown to purple with a broad, nearly black edge.
        LOBED: Two or three lobes with deep furrows between them.
    """

    GHOST = "ghost"
    FOLDED = "folded"
    RIBBED = "ribbed"
    CRUMPLED = "crumpled"
    RESIDUE = "residue"
    SPLIT = "split"
    DARK = "dark"
    LOBED = "lobed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stain:
    """Colours of the grains of one slide.

    Attributes:
        viable_rgb: Mean colour inside a viable grain.
        viable_spread: Standard deviation between grains of the optical density, as a share of it.
        pale_share: Share of the viable grains that took only half of the stain (pink, but full).
        non_viable_rgb: Mean colour inside a non-viable grain.
        looks: Looks the non-viable grains of this slide are drawn from.
        flecks: Strength of the orange net inside viable grains, 0 to 1.
        granularity: Strength of the fine grain of the contents, 0 to 1.
    """

    viable_rgb: RGB = (159.0, 24.0, 85.0)
    viable_spread: float = 0.10
    pale_share: float = 0.05
    non_viable_rgb: RGB = (168.0, 101.0, 126.0)
    looks: tuple[EmptyLook, ...] = tuple(EmptyLook)
    flecks: float = 0.2
    granularity: float = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Optics:
    """Microscope and camera.

    Attributes:
        blur_px: Standard deviation of the blur of the whole frame, px.
        defocus_spread_px: Scale of the additional blur of single grains and debris, px.
        light_angle_deg: Direction of the dark limb as seen from the grain's centre (0 right, 90
            down).
        limb: Strength of the dark limb on that side, 0 to 1.
        black_edge: Strength of a broad, nearly black edge all around, 0 to 1.
        halo: Strength of the bright ring outside the wall, 0 to 1.
        exine: Contrast of the toothed wall, 0 to 1.
        fringe_px: Shift between the red and the blue picture (yellow and blue edges), px.
        sharpening: Amount of the camera's unsharp mask, 0 to 1.
        noise_levels: Standard deviation of the sensor noise after the camera's smoothing, grey
            levels.
        jpeg_quality: Quality of one JPEG (4:2:0) round trip; None keeps the pixels as rendered.
    """

    blur_px: float = 0.8
    defocus_spread_px: float = 0.5
    light_angle_deg: float = 225.0
    limb: float = 0.5
    black_edge: float = 0.0
    halo: float = 0.4
    exine: float = 0.5
    fringe_px: float = 0.6
    sharpening: float = 0.4
    noise_levels: float = 0.3
    jpeg_quality: int | None = 95


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptySlide:
    """The empty slide.

    Attributes:
        rgb: Mean colour.
        gradient_levels: Difference between opposite sides of the frame, grey levels.
        vignette_levels: Fall-off from the centre to the corners, grey levels.
        mottle_levels: Standard deviation of slow, cloudy unevenness, grey levels.
        rings: Expected number of faint diffraction ring systems in 640 x 640 px.
    """

    rgb: RGB = (208.0, 208.0, 211.0)
    gradient_levels: float = 8.0
    vignette_levels: float = 3.0
    mottle_levels: float = 0.8
    rings: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Debris:
    """Expected number of each kind of debris in 640 x 640 px; none of it is a grain.

    Attributes:
        flakes: Magenta flakes and shreds of tissue: the most confusable kind.
        clumps: Granular stained lumps, often of the size of a grain.
        smears: Faint pink clouds of stain, out of focus.
        crystals: Colourless crumbs and clusters of them, seen by their relief.
        specks: Specks of a few pixels.
        bubbles: Air bubbles with a black ring, from half a grain to many grains across.
        fibres: Hairs and fibres.
        tissue: Pale sheets and chains of empty cells.
        ghosts: Droplets and dust far above the focus: faint soft rings.
        dust: Dark dust on the optics, far out of focus.
    """

    flakes: float = 0.8
    clumps: float = 0.2
    smears: float = 0.3
    crystals: float = 2.0
    specks: float = 15.0
    bubbles: float = 0.3
    fibres: float = 0.1
    tissue: float = 0.05
    ghosts: float = 4.0
    dust: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSpec:
    """One frame to render; with a seed it fixes every pixel.

    `random_spec` draws one like the real data.

    Attributes:
        n_grains: Grains wanted in the frame; fewer if there is no room without piling up.
        viable_fraction: Share of the grains that are viable (rounded up or down by the seed).
        grain_diameter_px: Median equivalent diameter of the viable grains, px.
        size_spread: Standard deviation of the logarithm of the diameter.
        empty_size_ratio: Median diameter of the non-viable grains as a share of that of the viable
            ones.
        touching_fraction: Share of the grains placed in pairs, chains and clusters.
        scale_bar: Burn a black scale bar and its length into the lower right corner.
        pixel_size_um: Width of a pixel, µm; the scale bar is drawn for it. None: unknown to the
            reader.
        crop_xyxy_px: Only this part shows the slide, the rest is plain canvas (the `_pad_`
            pictures).
        canvas_level: Grey level of that canvas.
    """

    width_px: int = 640
    height_px: int = 640
    n_grains: int = 12
    viable_fraction: float = 0.8
    grain_diameter_px: float = 46.0
    size_spread: float = 0.06
    empty_size_ratio: float = 0.85
    touching_fraction: float = 0.4
    scale_bar: bool = False
    pixel_size_um: float | None = None
    crop_xyxy_px: tuple[int, int, int, int] | None = None
    canvas_level: int = 0
    stain: Stain = field(default_factory=Stain)
    optics: Optics = field(default_factory=Optics)
    background: EmptySlide = field(default_factory=EmptySlide)
    debris: Debris = field(default_factory=Debris)

    def __post_init__(self) -> None:
        """Refuse a spec that can't be rendered.

        Raises:
            ValueError: If a size, count or share is outside its range.
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

    @property
    def visible_xyxy_px(self) -> tuple[int, int, int, int]:
        """The part of the frame that shows the slide: x0, y0, x1, y1 in px."""
        return self.crop_xyxy_px or (0, 0, self.width_px, self.height_px)

    @property
    def fields_of_view(self) -> float:
        """Visible area in units of 640 x 640 px, in which debris is counted."""
        x0, y0, x1, y1 = self.visible_xyxy_px
        return (x1 - x0) * (y1 - y0) / 640.0**2
