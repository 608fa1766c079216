"""Options of OpenAI's API through its own client: what the engine does with them, and what the gateway keeps of it."""

import json
import math
from collections.abc import Generator
from typing import Any

import httpx
import openai
import pytest
from e2e.fresh_answers import FreshAnswers
from e2e.live_server import LiveServer, wait_until
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionTokenLogprob
from pydantic import BaseModel, Field

from genkan.upstream.tokenizer import TextTokenizer

STORY = "Once upon a time"
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of France?"}]


class Visit(BaseModel):
    """Bounded, so that no answer is cut."""

    city: str = Field(max_length=12)
    guests: int = Field(ge=1, le=9)
    confirmed: bool


@pytest.fixture
def http(server: LiveServer) -> Generator[httpx.Client, None, None]:
    with httpx.Client(base_url=server.base_url, timeout=60, transport=FreshAnswers()) as client:
        yield client


@pytest.fixture
def sdk(server: LiveServer, http: httpx.Client) -> Generator[openai.OpenAI, None, None]:
    """OpenAI's client, for answers that the engine has just given."""
    with openai.OpenAI(
        base_url=f"{server.base_url}/v1",
        api_key="unused",
        max_retries=0,
        timeout=60,
        http_client=http,  # type: ignore[arg-type]  # it has a copy of httpx of its own, and takes ours as well
    ) as client:
        yield client


def complete(http: httpx.Client, **options: Any) -> dict[str, Any]:
    body = {"model": "default", "prompt": STORY, "temperature": 0, "max_tokens": 12, **options}
    response = http.post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def text_of(http: httpx.Client, **options: Any) -> str:
    return str(complete(http, **options)["choices"][0]["text"])


# How tokens are chosen


def test_a_bias_forbids_a_token_and_forces_one(http: httpx.Client, tokenizer: TextTokenizer) -> None:
    first, *_ = tokenizer.encode(text_of(http))
    (snow,) = tokenizer.encode(" snow")
    assert tokenizer.encode(text_of(http, logit_bias={str(first): -100}))[0] != first
    assert text_of(http, logit_bias={str(snow): 100}, max_tokens=3) == " snow snow snow"


@pytest.mark.parametrize("penalty", [{"presence_penalty": 2}, {"frequency_penalty": 2}, {"repetition_penalty": 1.5}])
def test_a_penalty_brings_variety(http: httpx.Client, penalty: dict[str, float]) -> None:
    def variety(**options: Any) -> int:
        biases = {str(token): 100 for token in range(1000, 1300)}  # one of these, whatever it makes of the text
        answer = complete(http, logit_bias=biases, max_tokens=16, logprobs=0, **options)
        return len(set(answer["choices"][0]["logprobs"]["tokens"]))

    assert variety(**penalty) > variety()


def test_an_answer_goes_on_from_its_beginning(http: httpx.Client, tokenizer: TextTokenizer) -> None:
    text = text_of(http)
    beginning = tokenizer.decode(tokenizer.encode(text)[:5])
    answer = complete(http, continue_text=beginning)
    assert beginning + answer["choices"][0]["text"] == text
    assert answer["usage"]["prompt_tokens_details"]["continued_tokens"] == 5
    assert answer["usage"]["completion_tokens"] == 7
    body = {"model": "default", "prompt": STORY, "continue_text": "", "max_tokens": 1}
    refused = http.post("/v1/completions", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "continue_text")


def test_min_tokens_and_ignore_eos_keep_an_answer_from_ending(http: httpx.Client) -> None:
    def asked(**options: Any) -> tuple[int, str]:
        messages = [{"role": "user", "content": "Say only: yes"}]
        body = {"model": "default", "messages": messages, "temperature": 0, **options}
        answer = http.post("/v1/chat/completions", json=body).raise_for_status().json()
        return answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]

    usual, reason = asked(max_tokens=60)
    assert reason == "stop"
    assert asked(max_tokens=60, min_tokens=usual + 5)[0] >= usual + 5
    assert asked(max_tokens=usual + 9, ignore_eos=True) == (usual + 9, "length")


def test_stop_tokens_end_an_answer_and_are_shown_on_demand(http: httpx.Client, tokenizer: TextTokenizer) -> None:
    text = text_of(http)
    ids = tokenizer.encode(text)
    third = tokenizer.decode(ids[: ids.index(ids[2])])
    shown = tokenizer.decode(ids[: ids.index(ids[2]) + 1])
    assert text_of(http, stop_token_ids=[ids[2]]) == third
    assert text_of(http, stop_token_ids=[ids[2]], include_stop_str_in_output=True) == shown
    assert text_of(http, stop=[text[6:9]], include_stop_str_in_output=True) == text[: text.index(text[6:9]) + 3]


# Several answers


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_answers_share_a_prompt_and_the_first_is_that_of_one(sdk: openai.OpenAI, stream: bool) -> None:
    def answers(n: int) -> list[str]:
        options: dict[str, Any] = {"seed": 5, "temperature": 1, "max_tokens": 8, "n": n}
        if not stream:
            answer = sdk.chat.completions.create(model="default", messages=MESSAGES, **options)
            assert answer.usage is not None
            assert answer.usage.completion_tokens <= 8 * n
            assert [choice.index for choice in answer.choices] == list(range(n))
            return [choice.message.content or "" for choice in answer.choices]
        texts, ended = [""] * n, [0] * n
        for chunk in sdk.chat.completions.create(model="default", messages=MESSAGES, stream=True, **options):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                ended[choice.index] += choice.finish_reason is not None
        assert ended == [1] * n
        return texts

    four = answers(4)
    assert answers(1) == four[:1]
    assert len(set(four)) > 1
    assert answers(4) == four


def test_prompts_are_answered_in_their_order(http: httpx.Client) -> None:
    prompts = ["The capital of France is", "The capital of Japan is"]
    together = complete(http, prompt=prompts, n=2, max_tokens=6)
    alone = [complete(http, prompt=prompt, max_tokens=6) for prompt in prompts]
    texts = [choice["text"] for choice in together["choices"]]
    assert texts[::2] == texts[1::2] == [answer["choices"][0]["text"] for answer in alone]
    assert together["usage"]["prompt_tokens"] == sum(answer["usage"]["prompt_tokens"] for answer in alone)
    assert together["usage"]["completion_tokens"] == 24


# Log probabilities and the prompt itself


def test_log_probabilities_stand_beside_the_text_they_are_of(sdk: openai.OpenAI) -> None:
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 8, "logprobs": True, "top_logprobs": 3}
    (choice,) = sdk.chat.completions.create(model="default", messages=MESSAGES, **options).choices
    assert choice.logprobs is not None
    content = choice.logprobs.content or []
    assert b"".join(bytes(token.bytes or ()) for token in content).decode() == choice.message.content
    for token in content:
        tops = [top.logprob for top in token.top_logprobs]
        assert tops == sorted(tops, reverse=True)
        assert token.logprob == tops[0]  # greedy
        assert 0 < sum(map(math.exp, tops)) <= 1.001

    streamed: list[ChatCompletionTokenLogprob] = []
    for chunk in sdk.chat.completions.create(model="default", messages=MESSAGES, stream=True, **options):
        for part in chunk.choices:
            streamed += (part.logprobs.content or []) if part.logprobs else []
    assert [token.token for token in streamed] == [token.token for token in content]


def test_an_echo_with_log_probabilities_scores_the_prompt(http: httpx.Client, tokenizer: TextTokenizer) -> None:
    prompt = "Hà Nội và 서울"
    answer = complete(http, prompt=prompt, echo=True, max_tokens=0, logprobs=1)
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == (prompt, "length")
    num_tokens = len(tokenizer.encode(prompt))
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] == num_tokens
    scores = choice["logprobs"]["token_logprobs"]
    assert len(scores) == num_tokens == len(choice["logprobs"]["tokens"])
    assert scores[0] is None
    assert all(score <= 0 for score in scores[1:])
    assert complete(http, prompt=prompt, echo=True)["choices"][0]["text"].startswith(prompt)


# Forms of answers


def test_the_sdk_parses_an_answer_into_a_model_of_pydantics(sdk: openai.OpenAI) -> None:
    for stream in (False, True):
        options: dict[str, Any] = {"response_format": Visit, "max_tokens": 80, "temperature": 1, "n": 2, "seed": 3}
        if stream:
            with sdk.chat.completions.stream(model="default", messages=MESSAGES, **options) as events:
                completion = events.get_final_completion()
        else:
            completion = sdk.chat.completions.parse(model="default", messages=MESSAGES, **options)
        assert [type(choice.message.parsed) for choice in completion.choices] == [Visit, Visit]
        assert {choice.finish_reason for choice in completion.choices} == {"stop"}


@pytest.mark.parametrize(
    ("form", "allowed"),
    [
        ({"regex": "[A-Z]{3}-[0-9]{2}"}, None),
        ({"choice": ["Hà Nội", "서울"]}, {"Hà Nội", "서울"}),
        ({"grammar": 'start: "on" | "off"'}, {"on", "off"}),
    ],
    ids=["regex", "choice", "grammar"],
)
def test_other_forms_hold_too(http: httpx.Client, form: dict[str, Any], allowed: set[str] | None) -> None:
    text = text_of(http, structured_outputs=form, max_tokens=24, temperature=1)
    if allowed is None:
        assert [char.isdigit() for char in text] == [False] * 4 + [True] * 2
        assert text[3] == "-"
    else:
        assert text in allowed


# What the gateway stores


def test_only_one_plain_text_is_stored_and_only_for_the_same_options(server: LiveServer) -> None:
    def caches(**options: Any) -> list[str]:
        body = {"model": "default", "messages": MESSAGES, "temperature": 0, "max_tokens": 40, **options}
        with httpx.Client(base_url=server.base_url, timeout=60) as http:
            responses = [http.post("/v1/chat/completions", json=body).raise_for_status() for _ in range(2)]
        assert responses[0].json()["choices"] == responses[1].json()["choices"]
        return [response.headers["x-genkan-cache"] for response in responses]

    for form in ({"regex": "[a-z]{4}"}, {"regex": "[0-9]{4}"}, {"choice": ["yes", "no"]}):
        assert caches(structured_outputs=form) == ["miss", "hit-exact"]
    assert caches(logit_bias={"100": 1}) == ["miss", "hit-exact"]
    assert caches(n=2) == ["bypass", "bypass"]
    assert caches(logprobs=True) == ["bypass", "bypass"]


# Who leaves


def test_an_answer_whose_client_leaves_is_cancelled_whole(server: LiveServer) -> None:
    body = {"model": "default", "messages": MESSAGES, "n": 8, "max_tokens": 500, "ignore_eos": True, "stream": True}
    with (
        httpx.Client(base_url=server.base_url, timeout=60, transport=FreshAnswers()) as http,
        http.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        seen: set[int] = set()
        for line in response.iter_lines():
            if line:
                seen |= {choice["index"] for choice in json.loads(line.removeprefix("data: "))["choices"]}
            if seen == set(range(8)):
                break
    wait_until(lambda: server.running_sequences() == server.waiting_sequences() == 0, 10, "all eight are cancelled")


# What is refused


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"n": 9}, "n"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": {str(token): 1 for token in range(301)}}, "logit_bias"),
        ({"logit_bias": {"49152": 1}}, "logit_bias"),
        ({"stop": ["a"] * 1000}, "stop"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"priority": "high"}, "priority"),
        ({"structured_outputs": {"regex": "("}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs.choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_is_refused_by_name(sdk: openai.OpenAI, options: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="default", messages=MESSAGES, extra_body=options)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
