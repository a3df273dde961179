import pytest

from pollen.detection.decoding import OutputError
from pollen.detection.tiling import ScaleError
from pollen.frames import FrameError
from tasks.faults import StorageError, UnusableNameError, failure_reason


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (FrameError("damaged"), False),
        (OutputError("not finite"), False),
        (ScaleError("too small"), False),
        (UnusableNameError("too long"), False),
        (StorageError("refused"), True),
        (StorageError("busy", heals=True), True),
        (OSError("disk"), True),
    ],
)
def test_the_row_of_a_failed_picture_says_why_and_whether_it_is_tried_again(
    error: Exception, transient: bool
) -> None:
    assert failure_reason(error) == (str(error), transient)


def test_unexpected_errors_are_reported_and_tried_again() -> None:
    reason, transient = failure_reason(KeyError("x"))
    assert "unexpected error (KeyError" in reason
    assert transient
    reason, transient = failure_reason(MemoryError())
    assert "not enough memory" in reason
    assert transient
