"""What the image holds, installed once for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.support.installed import Installed, installed


@pytest.fixture(scope="session")
def image() -> Iterator[Installed]:
    """The image's files below a folder, run as its user with its variables."""
    with installed() as files:
        yield files
