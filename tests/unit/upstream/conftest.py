"""A fault upstream in the test's own process."""

from collections.abc import AsyncGenerator

import pytest
from faults.upstream import FaultUpstream


@pytest.fixture
async def faults() -> AsyncGenerator[FaultUpstream, None]:
    async with FaultUpstream() as running:
        yield running
