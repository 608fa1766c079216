"""The model lists: OpenAI's, and genkan's own with prices."""

import orjson

from genkan.api.exchange import Exchange
from genkan.config import PricesConfig
from genkan.errors import ModelNotFound
from genkan.gateway.prices import Price, PriceBook, usd_per_mtok
from genkan.gateway.router import Listed, Router

LIST_PATH = "/v1/models"
_NOTE = (
    "Prices are in US dollars per million tokens; null where none is configured, and for a route, which costs what the "
    "model that answers costs. Of a model with several upstreams it is the first one's. price_per_mtok is the flat "
    "price, or that of output where there is none; prices_per_mtok is what is billed."
)


class ModelEndpoints:
    """``GET /v1/models``, ``GET /v1/models/{id}``, ``GET /models``."""

    def __init__(self, router: Router, prices: PriceBook | None = None) -> None:
        """Without ``prices`` no model has one."""
        self._router = router
        self._prices = _prices(router, prices or PriceBook(PricesConfig()))

    async def list_all(self, exchange: Exchange) -> None:
        data = [_model(listed) for listed in self._names(exchange)]
        await exchange.reply(orjson.dumps({"object": "list", "data": data}))

    async def get_one(self, exchange: Exchange) -> None:
        name = exchange.path.removeprefix(f"{LIST_PATH}/")
        if not exchange.caller.may_use(name):
            raise ModelNotFound(name)
        await exchange.reply(orjson.dumps(_model(self._router.listed(name))))

    async def list_native(self, exchange: Exchange) -> None:
        models = [
            {"id": listed.name, "provider": listed.owned_by, **_price_fields(self._prices.get(listed.name))}
            for listed in self._names(exchange)
        ]
        await exchange.reply(orjson.dumps({"models": models, "currency": "USD", "exchange_rate_note": _NOTE}))

    def _names(self, exchange: Exchange) -> list[Listed]:
        """Those that the caller may use."""
        return [listed for listed in self._router.names() if exchange.caller.may_use(listed.name)]


def _model(listed: Listed) -> dict[str, object]:
    return {"id": listed.name, "object": "model", "created": listed.created, "owned_by": listed.owned_by}


def _prices(router: Router, prices: PriceBook) -> dict[str, Price | None]:
    """By the model's name, what it costs at the first of its places."""
    found: dict[str, Price | None] = {}
    for place in router.deployments:
        if place.model not in found:
            found[place.model] = prices.price(place.model, upstream=place.upstream.name, name_there=place.name_there)
    if router.embedder is not None:
        found[router.embedder.name] = router.embedder.price
    return found


def _price_fields(price: Price | None) -> dict[str, object]:
    if price is None:
        return {"price_per_mtok": None, "prices_per_mtok": None}
    one = price.output_pico_usd if price.flat_pico_usd is None else price.flat_pico_usd
    billed = {
        "input": price.input_pico_usd,
        "output": price.output_pico_usd,
        "cached_input": price.cached_input_pico_usd,
        "cache_write": price.cache_write_pico_usd,
    }
    return {
        "price_per_mtok": usd_per_mtok(one),
        "prices_per_mtok": {name: usd_per_mtok(pico_usd) for name, pico_usd in billed.items()},
    }
