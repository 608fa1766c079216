"""What a request says about the prefix cache, and what people can ask about it."""

from typing import Any

import orjson
import pytest
from fakes import Changes, FakeRunner
from local_answers import IM_END, MakeModel, body_of, chunks_of, completion, runner_of

from genkan.serving.local_model import LocalModel
from genkan.upstream.tokenizer import TextTokenizer
from genkan.wire.caller import Caller

pytestmark = pytest.mark.anyio

PROMPT = [10, 20, 30, 40] * 10  # two pages of sixteen tokens, and eight more
OTHER = [11, *PROMPT]


@pytest.fixture
def runner(tokenizer: TextTokenizer) -> FakeRunner:
    return runner_of([*tokenizer.encode("Hello"), IM_END])


@pytest.fixture
def model(make_model: MakeModel, runner: FakeRunner) -> LocalModel:
    return make_model(runner)


async def cached_tokens(model: LocalModel, prompt: list[int] = PROMPT, **options: Any) -> int:
    """What the usage of one answer says."""
    usage = (await body_of(model, completion(prompt, **options)))["usage"]
    cached: int = usage["cached_tokens"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": cached}
    return cached


async def drawn(model: LocalModel) -> list[dict[str, Any]]:
    """The one namespace's nodes."""
    (namespace,) = (await model.prefix_cache_snapshot())["namespaces"]
    nodes: list[dict[str, Any]] = namespace["children"]
    return nodes


async def test_usage_says_how_much_of_the_prompt_was_found(model: LocalModel) -> None:
    assert [await cached_tokens(model) for _ in range(2)] == [0, 32]


async def test_a_stream_says_it_too(model: LocalModel) -> None:
    await cached_tokens(model)
    chunks = await chunks_of(model, completion(PROMPT, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1]["usage"]["cached_tokens"] == 32


@pytest.mark.parametrize("out", [{"genkan": {"prefix_cache": False}}, {"prompt_cache": False}])
async def test_a_request_can_stay_out_of_the_cache(model: LocalModel, out: dict[str, Any]) -> None:
    assert await cached_tokens(model, **out) == 0
    assert (await model.prefix_cache_snapshot())["pages"] == 0
    await cached_tokens(model)
    assert await cached_tokens(model, **out) == 0


@pytest.mark.parametrize("asked", [{"genkan": {"prefix_cache": True}}, {"prompt_cache": True}, {"genkan": {}}])
async def test_a_request_can_ask_for_what_is_so_anyway(model: LocalModel, asked: dict[str, Any]) -> None:
    assert [await cached_tokens(model, **asked) for _ in range(2)] == [0, 32]


async def test_salts_do_not_find_each_others_pages(model: LocalModel) -> None:
    salts: list[dict[str, Any]] = [{}, {"cache_salt": "a"}, {"cache_salt": "b"}]
    assert [await cached_tokens(model, **salt) for salt in salts] == [0, 0, 0]
    assert [await cached_tokens(model, **salt) for salt in salts] == [32, 32, 32]


@pytest.mark.parametrize("asked", [{"genkan": {"prefix_ttl_s": 60}}, {"cache_ttl_seconds": 60}])
async def test_a_ttl_bounds_how_long_pages_stay(model: LocalModel, asked: dict[str, Any]) -> None:
    await cached_tokens(model, **asked)
    (node,) = await drawn(model)
    assert 0 < node["expires_in_s"] <= 60


async def test_without_a_ttl_pages_stay_for_ever(model: LocalModel) -> None:
    await cached_tokens(model)
    (node,) = await drawn(model)
    assert node["expires_in_s"] is None
    assert node["pinned"] == 0


@pytest.mark.parametrize("asked", [{"genkan": {"prefix_pin": True}}, {"high_priority": True}])
async def test_a_request_can_pin_its_prompt(
    model: LocalModel, runner: FakeRunner, changes: Changes, asked: dict[str, Any]
) -> None:
    await cached_tokens(model, **asked)
    assert [node["pinned"] for node in await drawn(model)] == [2]
    await changes.until_idle()
    assert changes.seen[-1].pinned_pages == 2


# What people ask


async def test_a_snapshot_names_the_model_the_tenant_and_the_texts(model: LocalModel, tokenizer: TextTokenizer) -> None:
    await cached_tokens(model)
    await cached_tokens(model, OTHER, cache_salt="a")
    snapshot = await model.prefix_cache_snapshot()
    assert snapshot["model"] == "smollm2-135m"
    assert snapshot["blocks"]["cached"] == snapshot["pages"] == 4
    assert [namespace["tenant"] for namespace in snapshot["namespaces"]] == ["local", "local"]
    assert len({namespace["namespace"] for namespace in snapshot["namespaces"]}) == 2
    assert all(len(namespace["namespace"]) == 12 for namespace in snapshot["namespaces"])
    texts = [namespace["children"][0]["text"] for namespace in snapshot["namespaces"]]
    assert texts == [tokenizer.decode(PROMPT[:32]), tokenizer.decode(OTHER[:32])]


async def test_a_purge_drops_all_of_a_tenants_pages_whatever_the_salt(model: LocalModel) -> None:
    await cached_tokens(model)
    await cached_tokens(model, cache_salt="a")
    assert await model.purge_prefix_cache("someone") == 0
    assert await cached_tokens(model) == 32
    assert await model.purge_prefix_cache("local") == 4
    assert await model.purge_prefix_cache("local") == 0
    assert [await cached_tokens(model), await cached_tokens(model, cache_salt="a")] == [0, 0]


async def test_no_tenant_finds_what_another_has_asked(model: LocalModel) -> None:
    async def asked_by(tenant: str) -> int:
        answer = await model.respond(completion(PROMPT), Caller("req_1", tenant))
        found: int = orjson.loads(answer.body or b"")["usage"]["cached_tokens"]
        return found

    assert [await asked_by("acme"), await asked_by("acme"), await asked_by("beta")] == [0, 32, 0]
    tenants = {namespace["tenant"] for namespace in (await model.prefix_cache_snapshot())["namespaces"]}
    assert tenants == {"acme", "beta"}
    assert await model.purge_prefix_cache("acme") > 0
    assert [await asked_by("beta"), await asked_by("acme")] == [32, 0]
