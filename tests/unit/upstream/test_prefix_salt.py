"""The salts under which model servers cache tenants' prompts."""

from typing import Any

import pytest
from faults.upstream import FaultUpstream
from upstream_calls import chat

from genkan.clock import SystemClock
from genkan.config import OpenAiUpstreamConfig
from genkan.upstream.base import Call
from genkan.upstream.openai_http import OpenAiUpstream
from genkan.upstream.prefix_salt import PrefixSalts, is_salted

SECRET = b"0123456789abcdef0123456789abcdef"


def salt(tenant: str, secret: bytes = SECRET, **body: Any) -> str:
    return PrefixSalts(secret).of(tenant, body)


def test_the_same_tenant_has_the_same_and_others_another() -> None:
    assert salt("acme") == salt("acme")
    assert len({salt("acme"), salt("globex"), salt(""), salt("acme", b"another secret of enough length")}) == 4


def test_what_a_client_gives_divides_what_is_its_tenants() -> None:
    given = [
        salt("acme"),
        salt("acme", cache_salt="a"),
        salt("acme", cache_salt="b"),
        salt("acme", extra_key="a"),
        salt("acme", extra_key=["a", "b"]),
        salt("globex", cache_salt="a"),
        salt("globex", cache_salt=salt("acme")),
    ]
    assert len(set(given)) == len(given)


def test_no_tenant_can_make_itself_look_like_another_with_a_salt() -> None:
    assert salt("a", cache_salt="bc") != salt("ab", cache_salt="c")
    assert salt('a","b', cache_salt="c") != salt("a", cache_salt='b","c')


def test_it_is_what_vllm_takes() -> None:
    made = salt("a/b@c", cache_salt="x" * 256)
    assert len(made) == 64
    assert set(made) <= set("0123456789abcdef")


def test_a_body_has_it_in_place_of_what_the_client_gave() -> None:
    body = {"model": "m", "cache_salt": "mine", "extra_key": "k"}
    PrefixSalts(SECRET).apply(body, "acme")
    assert body == {"model": "m", "cache_salt": salt("acme", cache_salt="mine", extra_key="k")}


def test_only_servers_that_know_salts_are_sent_one_and_those_that_tenants_share_are_not() -> None:
    def of(kind: str, **more: Any) -> bool:
        return is_salted(
            OpenAiUpstreamConfig.model_validate({"name": "u", "kind": kind, "base_url": "http://h", **more})
        )

    assert of("vllm")
    assert of("sglang")
    assert not of("openai")
    assert not of("vllm", share_prefix_cache=True)


@pytest.mark.anyio
async def test_a_request_to_a_salted_server_has_it_and_the_clients_own_goes_nowhere(faults: FaultUpstream) -> None:
    config = OpenAiUpstreamConfig.model_validate({"name": "up", "kind": "vllm", "base_url": faults.base_url})
    upstream = OpenAiUpstream(config, None, SystemClock(), PrefixSalts(SECRET))
    request = chat(cache_salt="mine")
    await (await upstream.respond(request, "ok", total_s=10.0, call=Call("id", "acme"))).aclose()
    await upstream.aclose()
    (attempt,) = faults.ledger.attempts
    assert attempt.body == {**request.raw, "model": "ok", "cache_salt": salt("acme", cache_salt="mine")}
    assert request.raw["cache_salt"] == "mine"
