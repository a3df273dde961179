"""Log lines that anybody could cause by the thousand: the first ones are written, and later a few."""

import itertools
import logging
from typing import Final

#: So many lines of a kind are written, and later one in a thousand.
SHOWN: Final = 10
_LATER: Final = 1000


class Seldom:
    """Warnings of one kind; may be used by several threads."""

    def __init__(self) -> None:
        self._count = itertools.count(1)
        self._log = logging.getLogger("pollen.events")

    def warn(self, text: str, *arguments: object) -> None:
        """Write a line, which begins with its number, or leave it.

        Args:
            text: The line, with places for the arguments as the logging library has them.
            arguments: What is put in there.
        """
        count = next(self._count)
        if count <= SHOWN or count % _LATER == 0:
            self._log.warning("%d: " + text, count, *arguments)
