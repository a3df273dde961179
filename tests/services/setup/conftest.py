"""What tests of the set-up share. Names are new in every test: the server is shared."""

from collections.abc import Iterator

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client

from services.embedded import EmbeddedPrefect


@pytest.fixture
def client(prefect_server: EmbeddedPrefect) -> Iterator[SyncPrefectClient]:
    """A client of the real Prefect server."""
    with get_client(sync_client=True) as connected:
        yield connected
