"""Files that hold one field several times: a stack of focus planes, a series of time points."""

from collections.abc import Mapping

FOCUS_NOTE = (
    "the file holds several focus planes (Z), and each is counted as a picture of its own: if they "
    "show one field, upload only the sharpest"
)
TIME_NOTE = (
    "the file holds several time points (T), and each is counted as a picture of its own: if they "
    "show one field, upload only one"
)


def stack_notes(sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Notes about the frames of a file with these axes.

    Args:
        sizes: Length of each axis by its letter, as TIFF and CZI name them.
    """
    notes = {"Z": FOCUS_NOTE, "T": TIME_NOTE}
    return tuple(note for axis, note in notes.items() if sizes.get(axis, 1) > 1)
