"""One server for all end-to-end tests that do not break it."""

from collections.abc import Generator

import pytest
from server import Server, running_server


@pytest.fixture(scope="session")
def server() -> Generator[Server, None, None]:
    """A ready server with the default configuration."""
    with running_server() as server:
        yield server
