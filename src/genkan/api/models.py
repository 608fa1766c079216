"""The model lists: OpenAI's, and genkan's own with prices."""

import orjson

from genkan.api.exchange import Exchange
from genkan.gateway.router import Listed, Router

LIST_PATH = "/v1/models"


class ModelEndpoints:
    """``GET /v1/models``, ``GET /v1/models/{id}``, ``GET /models``."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def list_all(self, exchange: Exchange) -> None:
        data = [_model(listed) for listed in self._router.names()]
        await exchange.reply(orjson.dumps({"object": "list", "data": data}))

    async def get_one(self, exchange: Exchange) -> None:
        name = exchange.path.removeprefix(f"{LIST_PATH}/")
        await exchange.reply(orjson.dumps(_model(self._router.listed(name))))

    async def list_native(self, exchange: Exchange) -> None:
        models = [
            {"id": listed.name, "provider": listed.owned_by, "price_per_mtok": None} for listed in self._router.names()
        ]
        content = {
            "models": models,
            "currency": "USD",
            "exchange_rate_note": "Prices are in US dollars per million tokens; null where none is configured.",
        }
        await exchange.reply(orjson.dumps(content))


def _model(listed: Listed) -> dict[str, object]:
    return {"id": listed.name, "object": "model", "created": listed.created, "owned_by": listed.owned_by}
