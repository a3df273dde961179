"""Templates of HTML pages that stand alone, and escaping of texts."""

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pollen.statistics.intervals import percent


def environment(filters: Mapping[str, Callable[..., Any]]) -> Environment:
    """Return the templates of this project; everything that is filled in is escaped.

    Args:
        filters: Filters of one page, beside those that all pages have: `percent` (of a fraction),
            `number` (with thousands marked), `name` (of a file) and `data_url` (of a picture; of a
            PNG with the argument `png`).
    """
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": percent,
        "number": lambda value: f"{value:,}",
        "name": printable,
        "data_url": data_url,
        **filters,
    }
    return made


def printable(text: str) -> str:
    """Replace line breaks, control characters and those that reverse text; file names may have them."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


#: Characters that Markdown does not show as they are, and those that turn a text into a link.
_SIGNS = re.compile(r"[\\`*_\[\]<>|~&#$!@]|(?<=www)\.|:(?=//)", re.IGNORECASE)
#: The start of a list or a rule.
_STARTS = re.compile(r"^(\d{0,9})([-+.)=](?=\s|$)|(?<!\d)[-=])")


def markdown(text: str) -> str:
    """Escape a text so that Markdown shows it as it is, also in a table cell."""
    return _STARTS.sub(r"\1\\\2", _SIGNS.sub(r"\\\g<0>", printable(text).strip()))


def plain(shown: str) -> str:
    """Return the text from which `markdown` made `shown`."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", shown)


def code(text: str) -> str:
    """Return a text as Markdown code, to be copied.

    Nothing can be escaped in code, so backticks are replaced.
    """
    readable = printable(text).replace("`", "'")
    return f"`{readable}`"


def data_url(picture: bytes, kind: str = "jpeg") -> str:
    """Return a picture (`jpeg` or `png`) as a `data:` URL that contains it."""
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode("ascii")
