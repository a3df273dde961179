"""Reading the fields of foreign messages, with errors that say what is missing or of the wrong type."""

from collections.abc import Mapping
from typing import Final

from pollen.errors import PollenError

_SHOWN_CHARACTERS: Final = 60


class NotANoticeError(PollenError):
    """A message, or a part of one, is not a notice of a known form; the error says what was found."""


def shown(value: object) -> str:
    """Return a short form of foreign text that is safe in a log: one line, ASCII, quoted."""
    if not isinstance(value, str):
        return f"a value of type {kind_of(value)}"
    short = value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "..."
    return ascii(short)


def object_of(value: object, what: str) -> Mapping[str, object]:
    """Return a value that must be an object.

    Args:
        value: The value.
        what: What the error calls it.

    Raises:
        NotANoticeError: If it is not an object.
    """
    if not isinstance(value, dict):
        raise NotANoticeError(f"{what} is {kind_of(value)}; expected an object")
    return value


def text_of(holder: Mapping[str, object], name: str, what: str) -> str:
    """Return a field that must be text.

    Args:
        holder: The object that has the field.
        name: Name of the field.
        what: What the error calls the object.

    Raises:
        NotANoticeError: If the field is missing or not text.
    """
    value = holder.get(name)
    if not isinstance(value, str):
        raise NotANoticeError(f"{name} of {what} is {kind_of(value)}; expected text")
    return value


def kind_of(value: object) -> str:
    """Return the JSON type of a value in words, for messages."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "true or false"
    names = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number"}
    return names.get(type(value), "not a JSON value")
