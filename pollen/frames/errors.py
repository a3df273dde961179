"""The one error of this package: a picture that cannot be read."""

from pollen.errors import PollenError


class FrameError(PollenError):
    """A picture that cannot be read as colour pixels.

    Its text is the reason a biologist sees in the results table: what was found, what was expected
    and what to do. It never names the path of a scratch file.
    """

    def within(self, where: str) -> "FrameError":
        """The same reason, saying in which page or scene of the file it was met."""
        return FrameError(f"{where}: {self}")
