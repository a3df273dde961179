"""HTML pages that stand alone: the templates, and how values are written into them."""

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pollen.statistics.intervals import percent


def environment(filters: Mapping[str, Callable[..., Any]]) -> Environment:
    """The templates of this project; everything that is filled in is escaped.

    Args:
        filters: Filters of one page, beside those that all pages have: ``percent`` (of a fraction),
            ``number`` (with thousands marked), ``name`` (of a file) and ``data_url`` (of a picture; of a
            PNG with the argument ``png``).
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
    """File names may hold line breaks, control characters or ones that turn the text around."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


#: What Markdown takes for more than text: signs anywhere, and what makes a link by itself.
_SIGNS = re.compile(r"[\\`*_\[\]<>|~&#$!@]|(?<=www)\.|:(?=//)", re.IGNORECASE)
#: What begins a list or a rule.
_STARTS = re.compile(r"^(\d{0,9})([-+.)=](?=\s|$)|(?<!\d)[-=])")


def markdown(text: str) -> str:
    """Text that Markdown shows as it is, in a table cell too."""
    return _STARTS.sub(r"\1\\\2", _SIGNS.sub(r"\\\g<0>", printable(text).strip()))


def plain(shown: str) -> str:
    """The text that :func:`markdown` made ``shown`` of."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", shown)


def code(text: str) -> str:
    """Text as Markdown code, to be copied; nothing can be escaped there, so quotation marks give way."""
    readable = printable(text).replace("`", "'")
    return f"`{readable}`"


def data_url(picture: bytes, kind: str = "jpeg") -> str:
    """A picture (``jpeg`` or ``png``) as an address that holds all of it."""
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode("ascii")
