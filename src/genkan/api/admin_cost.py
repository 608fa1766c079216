"""``GET /admin/cost/compare``: what a workload costs in a month with each priced model, and with GPUs of one's own."""

import orjson

from genkan.api.auth import require_admin
from genkan.api.exchange import Exchange
from genkan.cost_comparison import PARAMETERS, asked, compare
from genkan.gateway.prices import PriceBook

_NAMES = tuple(parameter.name for parameter in PARAMETERS)


class CostEndpoint:
    """Compares what is on the price list. Raises Unauthenticated or Forbidden for who is no admin."""

    def __init__(self, prices: PriceBook) -> None:
        self._prices = prices

    async def compare(self, exchange: Exchange) -> None:
        """Query parameters are those of `genkan cost compare`. Raises InvalidRequest for one that is wrong."""
        require_admin(exchange)
        workload, hosting = asked(exchange.query_values(*_NAMES))
        answer = compare(self._prices, workload, hosting).as_object()
        await exchange.reply(orjson.dumps(answer), headers=[(b"cache-control", b"no-store")])
