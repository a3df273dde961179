"""Faults of a picture, in words for the results table."""

from collections.abc import Iterator
from contextlib import contextmanager

from pollen.errors import PollenError


class FrameError(PollenError):
    """A picture that can't be read as colour pixels.

    Its text is the reason a biologist sees in the results table: what was found, what was expected
    and what to do. It never names the path of a scratch file.
    """

    def within(self, where: str) -> "FrameError":
        """Return the same reason, preceded by the page or scene of the file that it is about."""
        return FrameError(f"{where}: {self}")


@contextmanager
def refused_as(found: str, remedy: str = "upload it again or export it anew") -> Iterator[None]:
    """Turn whatever a decoder raises about a bad file into a `FrameError`.

    Decoders fed with damaged bytes raise errors of every class (struct, zlib, Index, Key, Memory,
    Unicode, their own), found by flipping bytes; all of them mean that this file can't be read.
    An operating-system error with a number (disk gone, no permission) is not the picture's fault
    and passes.

    Args:
        found: What is wrong; the start of the reason.
        remedy: What to do; the end of the reason.
    """
    try:
        yield
    except FrameError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        detail = " ".join(str(error).split())[:160] or type(error).__name__
        raise FrameError(f"{found} ({detail}): {remedy}") from error
