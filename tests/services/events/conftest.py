"""Fixtures of the tests of the receiver."""

from collections.abc import Iterator

import pytest

from tests.support.amazon import Amazon


@pytest.fixture(scope="session")
def amazon() -> Iterator[Amazon]:
    """Amazon's services as moto has them, shared by all tests: use names of your own."""
    with Amazon() as services:
        yield services
