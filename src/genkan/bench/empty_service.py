"""A BentoML service that does nothing, served with BentoML's defaults: what its own request stack costs."""

from collections.abc import AsyncGenerator
from typing import Any

import bentoml

from genkan.bench.chat_traffic import events

_EVENTS = [event.decode() for event in events()]


@bentoml.service(name="empty")
class Empty:
    """Takes what the benchmark sends and calls no upstream."""

    @bentoml.api(route="/empty")  # type: ignore[untyped-decorator]
    async def empty(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        return {}

    @bentoml.api(route="/events")  # type: ignore[untyped-decorator]
    async def events(self, messages: list[dict[str, Any]]) -> AsyncGenerator[str, None]:
        for event in _EVENTS:
            yield event
