"""Chat and text completions through OpenAI's own client, and as bytes on the wire."""

import json
from collections.abc import Generator
from typing import Any

import httpx
import openai
import pytest
from e2e.fresh_answers import FreshAnswers
from e2e.live_server import MODEL, LiveServer
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from genkan.upstream.tokenizer import TextTokenizer

CAPITAL = "What is the capital of France?"
STORY = "Once upon a time"


@pytest.fixture
def sdk(server: LiveServer) -> Generator[openai.OpenAI, None, None]:
    """OpenAI's client, for answers that the engine has just given."""
    fresh = httpx.Client(transport=FreshAnswers())
    url = f"{server.base_url}/v1"
    with openai.OpenAI(
        base_url=url,
        api_key="unused",
        max_retries=0,
        timeout=60,
        http_client=fresh,  # type: ignore[arg-type]  # it has a copy of httpx of its own, and takes ours as well
    ) as client:
        yield client


@pytest.fixture
def http(server: LiveServer) -> Generator[httpx.Client, None, None]:
    with httpx.Client(base_url=server.base_url, timeout=60, transport=FreshAnswers()) as client:
        yield client


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def chat_body(text: str, **options: Any) -> dict[str, Any]:
    return {"model": "default", "messages": user(text), "temperature": 0, **options}


def events_of(http: httpx.Client, path: str, body: dict[str, Any]) -> list[str]:
    """The payloads of a stream, after checking its framing byte by byte."""
    response = http.post(path, json={**body, "stream": True})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    *frames, rest = response.content.split(b"\n\n")
    assert rest == b""
    payloads = [frame.decode("utf-8") for frame in frames]
    assert all(payload.startswith("data: ") and "\n" not in payload for payload in payloads)
    return [payload.removeprefix("data: ") for payload in payloads]


def chunks_of(http: httpx.Client, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    *chunks, done = events_of(http, path, body)
    assert done == "[DONE]"
    return [json.loads(chunk) for chunk in chunks]


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def test_the_sdk_gets_the_capital_of_france(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model="default", messages=user(CAPITAL), temperature=0)
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.object == "chat.completion"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_streamed_answer_has_the_text_of_a_whole_one(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(model="default", messages=user(CAPITAL), temperature=0)
    stream = sdk.chat.completions.create(model="default", messages=user(CAPITAL), temperature=0, stream=True)
    chunks = list(stream)
    assert text_of(chunks) == whole.choices[0].message.content
    assert len({chunk.id for chunk in chunks}) == 1
    assert len(chunks) > 4  # it came in pieces


@pytest.mark.anyio
async def test_the_async_sdk_gets_the_same_answers(server: LiveServer, sdk: openai.OpenAI) -> None:
    expected = sdk.chat.completions.create(model="default", messages=user(CAPITAL), temperature=0)
    async with openai.AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key="unused", max_retries=0) as client:
        fresh = {"genkan": {"cache": "no-cache"}}
        whole = await client.chat.completions.create(
            model="default", messages=user(CAPITAL), temperature=0, extra_body=fresh
        )
        stream = await client.chat.completions.create(
            model="default", messages=user(CAPITAL), temperature=0, stream=True, extra_body=fresh
        )
        chunks = [chunk async for chunk in stream]
    assert whole.choices[0].message.content == expected.choices[0].message.content
    assert text_of(chunks) == expected.choices[0].message.content


def test_a_stream_opens_with_the_role_and_closes_with_one_finish_reason(http: httpx.Client) -> None:
    chunks = chunks_of(http, "/v1/chat/completions", chat_body(CAPITAL))
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all("role" not in chunk["choices"][0]["delta"] for chunk in chunks[1:])
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[-1]["choices"][0]["delta"] == {}


def test_a_stream_has_usage_only_when_asked(http: httpx.Client) -> None:
    silent = events_of(http, "/v1/chat/completions", chat_body(CAPITAL))
    assert all("usage" not in json.loads(event) for event in silent[:-1])
    declined = chunks_of(http, "/v1/chat/completions", chat_body(CAPITAL, stream_options={"include_usage": False}))
    assert all("usage" not in chunk for chunk in declined)


@pytest.mark.parametrize(
    ("path", "question"),
    [
        pytest.param("/v1/chat/completions", {"messages": user(CAPITAL)}, id="chat"),
        pytest.param("/v1/completions", {"prompt": STORY}, id="text"),
    ],
)
def test_the_usage_of_a_stream_is_that_of_a_whole_answer(
    http: httpx.Client, path: str, question: dict[str, Any]
) -> None:
    body = {"model": "default", "temperature": 0, "max_tokens": 8, **question}
    whole = http.post(path, json=body).json()
    *chunks, last = chunks_of(http, path, {**body, "stream_options": {"include_usage": True}})
    assert last["choices"] == []
    assert last["usage"] == {**whole["usage"], "cost_usd": 0.0}  # of a whole answer it is in a header
    assert all(chunk["usage"] is None for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_stop_string_is_found_across_token_borders_and_not_shown(sdk: openai.OpenAI, stream: bool) -> None:
    free = sdk.completions.create(model="default", prompt=STORY, temperature=0, max_tokens=16, stream=True)
    pieces = [chunk.choices[0].text for chunk in free if chunk.choices[0].text]
    assert len(pieces) > 8
    text = "".join(pieces)
    middle = len(pieces) // 2
    stop = pieces[middle - 1][-2:] + pieces[middle][:2]  # two tokens have it, neither alone
    assert all(stop not in piece for piece in pieces)

    if stream:
        chunks = list(
            sdk.completions.create(
                model="default", prompt=STORY, temperature=0, max_tokens=16, stop=[stop, "☃"], stream=True
            )
        )
        shown = "".join(chunk.choices[0].text for chunk in chunks)
        reason = str(chunks[-1].choices[0].finish_reason)
    else:
        answer = sdk.completions.create(model="default", prompt=STORY, temperature=0, max_tokens=16, stop=stop)
        shown, reason = answer.choices[0].text, str(answer.choices[0].finish_reason)
        assert answer.usage is not None
        assert answer.usage.completion_tokens < 16
    assert shown == text[: text.index(stop)]
    assert reason == "stop"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("limit", [1, 7])
def test_an_answer_ends_at_exactly_the_token_limit(http: httpx.Client, name: str, limit: int) -> None:
    answer = http.post("/v1/chat/completions", json=chat_body("Tell me a long story.", **{name: limit})).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == limit
    chunks = chunks_of(http, "/v1/chat/completions", chat_body("Tell me a long story.", **{name: limit}))
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_a_seed_repeats_an_answer_and_another_seed_gives_another(sdk: openai.OpenAI) -> None:
    def sample(seed: int) -> str:
        answer = sdk.completions.create(model="default", prompt=STORY, temperature=1, top_p=1, seed=seed, max_tokens=12)
        return answer.choices[0].text

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in (1, 2, 3)}) > 1


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Thủ đô của Việt Nam là gì? Trả lời bằng tiếng Việt.", id="Vietnamese"),
        pytest.param("대한민국의 수도는 어디입니까? 한국어로 대답하세요.", id="Korean"),
        pytest.param("Repeat exactly: 🦊🌸🎌👩\u200d👩\u200d👧🇯🇵", id="emoji"),
    ],
)
def test_no_character_is_ever_cut(http: httpx.Client, text: str) -> None:
    body = chat_body(text, max_tokens=32)
    chunks = chunks_of(http, "/v1/chat/completions", body)  # decodes every event as UTF-8
    streamed = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    whole = http.post("/v1/chat/completions", json=body).json()["choices"][0]
    assert streamed == whole["message"]["content"]
    assert not streamed.isascii()
    if whole["finish_reason"] == "length":  # the limit itself may cut the last character
        streamed = streamed.removesuffix("\ufffd")
    assert "\ufffd" not in streamed


def test_content_in_text_parts_is_the_same_as_content_in_one_string(sdk: openai.OpenAI) -> None:
    one = sdk.chat.completions.create(model="default", messages=user(CAPITAL), temperature=0)
    half = len(CAPITAL) // 2
    parts = sdk.chat.completions.create(
        model="default",
        messages=[
            {
                "role": "user",
                "content": [{"type": "text", "text": CAPITAL[:half]}, {"type": "text", "text": CAPITAL[half:]}],
            }
        ],
        temperature=0,
    )
    assert parts.choices[0].message.content == one.choices[0].message.content
    assert parts.usage == one.usage


def test_earlier_turns_and_the_system_prompt_count(sdk: openai.OpenAI) -> None:
    def prompt_tokens(messages: list[ChatCompletionMessageParam]) -> int:
        answer = sdk.chat.completions.create(model="default", messages=messages, max_tokens=1)
        assert answer.usage is not None
        return answer.usage.prompt_tokens

    turns: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "You answer briefly."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hello, how can I help?"},
        {"role": "user", "content": CAPITAL},
    ]
    assert prompt_tokens(turns) > prompt_tokens(turns[:2]) > prompt_tokens(turns[:1])
    as_developer: list[ChatCompletionMessageParam] = [
        {"role": "developer", "content": "You answer briefly."},
        *turns[1:],
    ]
    assert prompt_tokens(as_developer) == prompt_tokens(turns)


def test_the_alias_and_the_name_reach_the_same_model(sdk: openai.OpenAI) -> None:
    answers = [
        sdk.chat.completions.create(model=name, messages=user(CAPITAL), temperature=0) for name in ("default", MODEL)
    ]
    assert {answer.model for answer in answers} == {MODEL}
    assert len({answer.choices[0].message.content for answer in answers}) == 1


def test_completions_take_text_and_token_ids(sdk: openai.OpenAI, tokenizer: TextTokenizer) -> None:
    prompts: list[str | list[int] | list[str] | list[list[int]]] = [
        STORY,
        [STORY],
        tokenizer.encode(STORY),
        [tokenizer.encode(STORY)],
    ]
    answers = [
        sdk.completions.create(model="default", prompt=prompt, temperature=0, max_tokens=6) for prompt in prompts
    ]
    assert len({answer.choices[0].text for answer in answers}) == 1
    assert answers[0].choices[0].text != ""
    assert {answer.usage.prompt_tokens for answer in answers if answer.usage} == {len(tokenizer.encode(STORY))}
    assert answers[0].object == "text_completion"


def test_every_response_names_itself_and_who_answered(http: httpx.Client) -> None:
    bodies = [chat_body("Hi", max_tokens=1), chat_body("Hi", max_tokens=1, stream=True)]
    responses = [http.post("/v1/chat/completions", json=body) for body in bodies * 3]
    assert len({response.headers["x-request-id"] for response in responses}) == len(responses)
    for response in responses:
        assert response.headers["x-genkan-model"] == MODEL
        assert response.headers["x-genkan-upstream"] == "engine"
        assert response.headers["x-genkan-attempts"] == "1"
        assert response.headers["x-genkan-cache"] == "bypass"


def test_neutral_options_labels_and_extras_are_accepted(http: httpx.Client) -> None:
    options = {
        "n": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "logit_bias": {},
        "logprobs": False,
        "response_format": {"type": "text"},
        "tools": [],
        "user": "someone",
        "metadata": {"a": "b"},
        "stop": None,
        "genkan": {"cache": "no-cache", "prefix_cache": False, "tags": ["a"]},
        "cache_control": "auto",
    }
    answer = http.post("/v1/chat/completions", json=chat_body("Hi", max_tokens=1, **options))
    assert answer.status_code == 200, answer.text
