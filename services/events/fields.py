"""Fields of a message from outside: read with a sentence for what is missing or of another kind."""

from collections.abc import Mapping
from typing import Final

from pollen.errors import PollenError

_SHOWN_CHARACTERS: Final = 60


class NotANoticeError(PollenError):
    """A message, or a part of one, that is no notice of a known form; the sentence says what was found."""


def shown(value: object) -> str:
    """A short form of foreign text that is safe in a log: one line, ASCII, quoted."""
    if not isinstance(value, str):
        return f"a value of type {kind_of(value)}"
    short = value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "..."
    return ascii(short)


def object_of(value: object, what: str) -> Mapping[str, object]:
    """A value that must be an object.

    Raises:
        NotANoticeError: It is none; the sentence calls it ``what``.
    """
    if not isinstance(value, dict):
        raise NotANoticeError(f"{what} is {kind_of(value)}; expected an object")
    return value


def text_of(holder: Mapping[str, object], name: str, what: str) -> str:
    """A field that must be text.

    Raises:
        NotANoticeError: It is none; the sentence calls its holder ``what``.
    """
    value = holder.get(name)
    if not isinstance(value, str):
        raise NotANoticeError(f"{name} of {what} is {kind_of(value)}; expected text")
    return value


def kind_of(value: object) -> str:
    """The JSON type of a value, for messages."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "true or false"
    names = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number"}
    return names.get(type(value), "no JSON value")
