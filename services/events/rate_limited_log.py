"""Log lines that a stranger could cause by the thousand: the first ones are written, then only a few."""

import itertools
import logging
from typing import Final

#: Lines of a kind that are written; later, one line in a thousand is.
SHOWN: Final = 10
_LATER: Final = 1000


class RateLimitedLog:
    """A log for warnings of one kind; it may be used by several threads."""

    def __init__(self) -> None:
        self._count = itertools.count(1)
        self._log = logging.getLogger("pollen.events")

    def warn(self, text: str, *arguments: object) -> None:
        """Write a line that begins with its number, unless there were too many before it.

        Args:
            text: The line, with placeholders of the logging library.
            arguments: Values of the placeholders.
        """
        count = next(self._count)
        if count <= SHOWN or count % _LATER == 0:
            self._log.warning("%d: " + text, count, *arguments)
