"""Three grey channels that together are one colour picture.

Some exports store red, green and blue as channels of their own. They are put together only if the
file says which is which, or says nothing at all (then in stored order, with a note): fluorescence
channels are no colours of a stain and are refused.
"""

from collections.abc import Sequence

from pollen.frames.errors import FrameError

STORED_ORDER_NOTE = (
    "three channels without names were taken as red, green and blue, in this order: check the "
    "colours of the annotated picture"
)
_COLOURS = ("red", "green", "blue")
_RGB_OF_COLOUR = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def rgb_order(
    names: Sequence[str], colours: Sequence[tuple[int, int, int] | None]
) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Which channel is red, green and blue, and notes about it.

    Args:
        names: the channels' names, empty where unnamed.
        colours: the channels' display colours (red, green, blue), None where not stated.

    Raises:
        FrameError: not three channels, or three that are not red, green and blue.
    """
    if len(names) == 3:
        said = [_said(name, colour) for name, colour in zip(names, colours, strict=True)]
        if sorted(filter(None, said)) == sorted(_COLOURS):
            red, green, blue = (said.index(colour) for colour in _COLOURS)
            return (red, green, blue), ()
        if not any(map(_is_named, names)) and not any(colours):
            return (0, 1, 2), (STORED_ORDER_NOTE,)
    listed = ", ".join(name or f"channel {index}" for index, name in enumerate(names, 1))
    raise FrameError(
        f"the picture has {len(names)} separate grey channels ({listed}), expected one colour "
        "picture: the colour of the stain tells viable from non-viable grains, so export it in "
        "colour (RGB)"
    )


def _said(name: str, colour: tuple[int, int, int] | None) -> str | None:
    plain = name.strip().lower()
    for word in _COLOURS:
        if plain in (word, word[0]) or (not _is_named(name) and colour == _RGB_OF_COLOUR[word]):
            return word
    return None


def _is_named(name: str) -> bool:
    """Whether a name says anything; `C:0`, `Channel:0:1` and the like are numbers."""
    plain = name.strip().lower().replace("channel", "").replace("c", "")
    return any(character.isalpha() for character in plain)
