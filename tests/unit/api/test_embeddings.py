"""``POST /v1/embeddings``, as OpenAI's client and as a plain one see it."""

import asyncio
import json
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from accounts_at_hand import AccountsAtHand
from asgi import AsgiClient, post
from embedders import ScriptedEmbedder
from responders import ScriptedResponder
from scripted_upstreams import ServedBy, router_to

from genkan.api.embeddings import EmbeddingEndpoint
from genkan.api.models import LIST_PATH, ModelEndpoints
from genkan.api.routes import Api, PathTable
from genkan.config import Config, ServerConfig
from genkan.errors import ContextTooLong
from genkan.gateway.embedding import Embeddings
from genkan.gateway.prices import PriceBook
from genkan.wire.embeddings import EmbeddingRequest

pytestmark = pytest.mark.anyio
CONFIG = Config.model_validate(
    {
        "upstreams": [{"name": "u", "kind": "openai", "base_url": "http://h/v1"}],
        "models": [{"name": "m", "upstream": "u"}],
        "embedder": {"name": "e"},
        "prices": {"models": [{"model": "e", "input": 0.02, "output": 0.0}]},
    }
)
PATH = EmbeddingRequest.path


def api(embedder: ScriptedEmbedder | None = None, *, max_inputs: int = 2048) -> Api:
    router = router_to(CONFIG, [ServedBy(ScriptedResponder(), "u")])
    assert router.embedder is not None
    admissions = AccountsAtHand(CONFIG).admissions
    embeddings = Embeddings(embedder or ScriptedEmbedder(), router.embedder, router, admissions, timeout_s=1.0)
    models = ModelEndpoints(router, PriceBook(CONFIG.prices))
    table: PathTable = {
        PATH: {"POST": EmbeddingEndpoint(embeddings, ServerConfig(), max_inputs=max_inputs)},
        LIST_PATH: {"GET": models.list_all},
        f"{LIST_PATH}/*": {"GET": models.get_one},
        "/models": {"GET": models.list_native},
    }
    return Api(table, lambda _: None, [])


def client_of(app: Api) -> openai.AsyncOpenAI:
    http_client = openai.DefaultAsyncHttpxClient(transport=httpx2.ASGITransport(app=app))
    return openai.AsyncOpenAI(base_url="http://h/v1", api_key="unused", max_retries=0, http_client=http_client)


# --- OpenAI's client ---


@pytest.mark.parametrize("how", [{}, {"encoding_format": "float"}], ids=["base64", "float"])
async def test_openais_client_reads_it(how: Any) -> None:
    embedder, texts = ScriptedEmbedder(), ["xin chào", "안녕하세요 여러분"]
    async with client_of(api(embedder)) as client:
        got = await client.embeddings.create(model="e", input=texts, **how)
    assert [one.index for one in got.data] == [0, 1]
    for one, text in zip(got.data, texts, strict=True):
        assert np.array_equal(np.array(one.embedding, np.float32), embedder.vector(text))
    assert (got.model, got.object, got.data[0].object) == ("e", "list", "embedding")
    assert (got.usage.prompt_tokens, got.usage.total_tokens) == (4, 4)


async def test_openais_client_gets_fewer_dimensions() -> None:
    async with client_of(api()) as client:
        got = await client.embeddings.create(model="e", input="text", dimensions=3)
    assert len(got.data[0].embedding) == 3
    assert np.linalg.norm(got.data[0].embedding) == pytest.approx(1.0)


async def test_openais_client_raises_its_own_errors() -> None:
    async with client_of(api()) as client:
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.embeddings.create(model="nobody", input="text")
        assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.BadRequestError, match="generates text: it has no embeddings"):
            await client.embeddings.create(model="m", input="text")
        with pytest.raises(openai.BadRequestError, match="token ids"):
            await client.embeddings.create(model="e", input=[1, 2, 3])


async def test_openais_client_finds_the_model_in_the_list() -> None:
    async with client_of(api()) as client:
        assert [model.id async for model in client.models.list()] == ["m", "e"]
        assert (await client.models.retrieve("e")).owned_by == "genkan"


# --- HTTP ---


async def test_the_answer_names_the_model_and_the_cost() -> None:
    client = await post(api(), PATH, {"model": "e", "input": "one two three"})
    assert client.status == 200
    assert client.headers["content-type"] == "application/json"
    assert client.headers["x-request-id"].startswith("req_")
    assert (client.headers["x-genkan-model"], client.headers["x-genkan-upstream"]) == ("e", "embedder")
    assert client.headers["x-genkan-cost-usd"] == "0.000000060"


async def test_a_text_that_is_too_long_is_said_as_the_model_says_it() -> None:
    error = ContextTooLong(limit_tokens=512, prompt_tokens=600, max_tokens=0, param="input[1]")
    client = await post(api(ScriptedEmbedder(refuse=error)), PATH, {"model": "e", "input": ["a", "b"]})
    assert client.status == 400
    assert (client.error["code"], client.error["param"]) == ("context_length_exceeded", "input[1]")


async def test_more_texts_than_are_allowed_are_refused() -> None:
    embedder = ScriptedEmbedder()
    client = await post(api(embedder, max_inputs=2), PATH, {"model": "e", "input": ["a", "b", "c"]})
    assert (client.status, client.error["param"]) == (400, "input")
    assert "1 to 2 entries; given: 3" in client.error["message"]
    assert embedder.asked == []


async def test_without_an_embedder_it_says_so() -> None:
    app = Api({PATH: {"POST": EmbeddingEndpoint(None, ServerConfig())}}, lambda _: None, [])
    client = await post(app, PATH, {"model": "e", "input": "text"})
    assert (client.status, client.error["code"], client.error["param"]) == (404, "model_not_found", "model")
    assert "no 'embedder'" in client.error["message"]


async def test_a_client_that_leaves_cancels_the_work() -> None:
    embedder = ScriptedEmbedder(hangs=True)
    client = AsgiClient(api(embedder))
    asking = asyncio.create_task(client.request("POST", PATH, [b'{"model":"e","input":"text"}']))
    await embedder.entered.wait()
    client.disconnect()
    await asyncio.wait_for(asking, timeout=5)
    assert client.status == 0


async def test_others_get_their_turn_while_a_long_answer_is_written() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(count_turns())
    client = await post(api(ScriptedEmbedder(dimensions=1024)), PATH, {"model": "e", "input": ["text"] * 512})
    other.cancel()
    assert len(json.loads(client.body)["data"]) == 512
    assert turns >= 512 * 1024 // 16_384 - 1  # one between any two pieces


async def test_the_native_list_has_its_price() -> None:
    client = await AsgiClient(api()).request("GET", "/models")
    (model,) = [model for model in json.loads(client.body)["models"] if model["id"] == "e"]
    assert model["prices_per_mtok"] == {"input": 0.02, "output": 0.0, "cached_input": 0.02, "cache_write": 0.02}
