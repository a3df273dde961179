"""Errors of third-party decoders, turned into a reason in the table."""

from collections.abc import Iterator
from contextlib import contextmanager

from pollen.frames.errors import FrameError


@contextmanager
def refused_as(found: str, remedy: str = "upload it again or export it anew") -> Iterator[None]:
    """Turn whatever a decoder raises on a bad file into a FrameError.

    Decoders fed with damaged bytes raise errors of every class (struct, zlib, Index, Key, Memory,
    Unicode, their own), found by flipping bytes; all of them mean that this file cannot be read.
    An operating-system error with a number (disk gone, no permission) is none of the picture's
    fault and passes.

    Args:
        found: what is wrong, the start of the reason.
        remedy: what to do, the end of the reason.
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
