"""What of a request is not passed on to a model server that tenants share."""

from typing import Any

import pytest
from faults.upstream import FaultUpstream
from upstream_calls import KEY, chat

from genkan.clock import SystemClock
from genkan.config import OpenAiUpstreamConfig
from genkan.errors import UpstreamRefused
from genkan.upstream.openai_http import OpenAiUpstream
from genkan.upstream.operators_fields import operators_field
from genkan.wire.chat import ChatRequest, CompletionRequest

FIELDS: dict[str, Any] = {
    "kv_transfer_params": {"do_remote_prefill": True, "remote_host": "10.0.0.1"},
    "ec_transfer_params": {},
    "bootstrap_host": "10.0.0.1",
    "bootstrap_port": 8998,
    "bootstrap_room": 0,
    "bootstrap_pair_key": "a",
    "disagg_prefill_dp_rank": 0,
    "data_parallel_rank": 0,
    "routed_dp_rank": 1,
    "session_id": "of-another",
    "session_params": {"id": "of-another"},
    "rid": "r",
    "request_id": "r",
    "lora_path": "of-another",
    "lora_id": "of-another",
    "custom_logit_processor": "80049525",
    "logits_processors": ["os.system"],
    "chat_template": "{% for a in range(10**9) %}{% endfor %}",
    "prompt_embeds": "UEsDBA==",
    "input_embeds": [[0.0]],
}


def part(**fields: Any) -> ChatRequest:
    """A chat of which the second message's second part has these."""
    parts = [{"type": "text", "text": "What is this?"}, fields]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
    return ChatRequest.from_object({"model": "m", "messages": messages})


@pytest.mark.parametrize("name", FIELDS)
def test_each_is_found_in_chats_and_completions(name: str) -> None:
    given = {name: FIELDS[name]}
    assert operators_field(chat(**given)) == name
    assert operators_field(CompletionRequest.from_object({"model": "m", "prompt": "Once", **given})) == name


def test_null_says_nothing_and_what_is_the_clients_own_is_left_to_it() -> None:
    own = {"user": "u", "temperature": 0, "cache_salt": "mine", "extra_key": "k", "chat_template_kwargs": {"a": 1}}
    assert operators_field(chat(**dict.fromkeys(FIELDS), **own)) is None
    assert operators_field(CompletionRequest.from_object({"model": "m", "prompt": [1, 2]})) is None


def test_a_picture_has_no_name_in_the_servers_cache() -> None:
    picture = {"url": "data:image/png;base64,iVBORw0KGgo="}
    assert operators_field(part(type="image_url", image_url=picture)) is None
    assert operators_field(part(type="image_url", image_url=picture, uuid=None)) is None
    assert operators_field(part(type="image_url", image_url=None, uuid="a")) == "messages[1].content[1].uuid"
    hashed = part(type="image_url", image_url={**picture, "content_hash": "0" * 64})
    assert operators_field(hashed) == "messages[1].content[1].image_url.content_hash"


def test_tensors_are_not_text() -> None:
    assert operators_field(part(type="image_embeds", image_embeds="UEsDBA==")) == "messages[1].content[1].type"


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["vllm", "sglang"])
async def test_a_model_server_hears_nothing_of_such_a_request(faults: FaultUpstream, kind: str) -> None:
    upstream = upstream_of(kind, faults)
    with pytest.raises(UpstreamRefused) as caught:
        await upstream.respond(chat(session_params={"id": "of-another"}), "ok", total_s=10.0)
    assert await upstream.count_tokens(chat(chat_template="{{ 1 }}"), "ok", limit_s=10.0) is None
    await upstream.aclose()
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "unsupported_parameter", "session_params")
    assert not faults.ledger.attempts
    assert upstream.bulkhead.in_use == 0


@pytest.mark.anyio
async def test_other_servers_know_best_what_they_take(faults: FaultUpstream) -> None:
    upstream = upstream_of("openai", faults)
    await (await upstream.respond(chat(session_id="s"), "ok", total_s=10.0)).aclose()
    await upstream.aclose()
    (attempt,) = faults.ledger.attempts
    assert attempt.body["session_id"] == "s"


def upstream_of(kind: str, faults: FaultUpstream) -> OpenAiUpstream:
    config = OpenAiUpstreamConfig.model_validate({"name": "up", "kind": kind, "base_url": faults.base_url})
    return OpenAiUpstream(config, KEY, SystemClock())
