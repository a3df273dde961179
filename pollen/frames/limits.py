"""Limits of size, checked by the header before anything is decoded."""

from pollen.frames.frame_error import FrameError

#: Default limit of what is decoded in one piece, pixels: 0.6 GB of memory as RGB.
MAX_WHOLE_PIXELS = 200_000_000
#: Limit of a frame read by region, pixels (100,000 x 100,000): beyond it the header is wrong.
MAX_FRAME_PIXELS = 10_000_000_000
#: Limit of the frames of one file: beyond it the header is wrong.
MAX_FRAMES = 10_000


def check_frame_count(frames: int) -> None:
    """Refuse a file that claims more frames than anyone takes.

    Raises:
        FrameError: If there are more than `MAX_FRAMES`.
    """
    if frames > MAX_FRAMES:
        raise FrameError(
            f"the file says it holds {frames} pictures, more than {MAX_FRAMES}: it is damaged, "
            "upload it again, or split it"
        )


def check_whole_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture too large to be decoded in one piece.

    Raises:
        FrameError: If it has more than `max_pixels`, or none.
    """
    _check_not_empty(width, height)
    if width * height > max_pixels:
        raise FrameError(
            f"{width} x {height} px would have to be decoded in one piece, and the limit is "
            f"{max_pixels / 1e6:.0f} megapixels: save it as a tiled TIFF, which is read part by "
            "part, or crop it"
        )


def check_frame_size(width: int, height: int) -> None:
    """Refuse a frame of a size that no slide has.

    Raises:
        FrameError: If it has more than `MAX_FRAME_PIXELS` pixels, or none.
    """
    _check_not_empty(width, height)
    if width * height > MAX_FRAME_PIXELS:
        raise FrameError(
            f"the file says {width} x {height} px, which no slide has: it is damaged, "
            "upload it again"
        )


def _check_not_empty(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise FrameError(
            f"the file says {width} x {height} px, a picture without pixels: export it again"
        )
