"""Every parameter that OpenAI's client documents is answered or refused by name, and it can read every answer strictly.

The parameters are taken from the installed client's own types: with a newer one, a new parameter fails here until it is
decided. docs/compatibility.md has the same table for people.
"""

import re
from collections.abc import Generator, Mapping
from typing import Any, get_args, get_type_hints

import httpx
import openai
import pytest
from e2e.fault_gateway import Case, FaultGateway
from e2e.fresh_answers import FreshAnswers
from e2e.live_server import MODEL, ROOT, LiveServer
from e2e.openai_parameters import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, TOOLS, Parameter
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import ChatCompletionContentPartParam, ChatCompletionMessageParam
from openai.types.chat import completion_create_params as chat_create_params

DOCUMENT = ROOT / "docs" / "compatibility.md"
E5 = "multilingual-e5-small"
TYPED: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of France?"}]
FACES: dict[str, Mapping[str, Parameter]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/embeddings": EMBEDDINGS,
}
BASES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "default", "messages": MESSAGES, "max_tokens": 4, "temperature": 0},
    "/v1/completions": {"model": "default", "prompt": "Once upon a time", "max_tokens": 4, "temperature": 0},
    "/v1/embeddings": {"model": E5, "input": "xin chào"},
}
TYPES: dict[str, tuple[Any, ...]] = {
    "/v1/chat/completions": get_args(chat_create_params.CompletionCreateParams),
    "/v1/completions": get_args(completion_create_params.CompletionCreateParams),
    "/v1/embeddings": (embedding_create_params.EmbeddingCreateParams,),
}
EVERY = [
    pytest.param(path, name, parameter, id=f"{path[4:]}-{name}")
    for path, parameters in FACES.items()
    for name, parameter in parameters.items()
]
NEUTRAL = [
    pytest.param(path, name, parameter, id=f"{path[4:]}-{name}")
    for path, parameters in FACES.items()
    for name, parameter in parameters.items()
    if parameter.neutral is not None
]
#: Embeddings of other servers are asked for by genkan itself, in words of its own.
PASSED_ON = [given for given in EVERY if given.values[0] != "/v1/embeddings"]
#: What a part of a message may be, and a value of it.
PARTS: dict[str, dict[str, Any]] = {
    "text": {"text": "Hi"},
    "image_url": {"image_url": {"url": "https://images.example/a.png"}},
    "input_audio": {"input_audio": {"data": "AAAA", "format": "wav"}},
    "file": {"file": {"file_id": "file-1"}},
}


@pytest.fixture(scope="module")
def http(server: LiveServer) -> Generator[httpx.Client, None, None]:
    with httpx.Client(base_url=server.base_url, timeout=60, transport=FreshAnswers()) as client:
        yield client


@pytest.fixture
def strict(server: LiveServer) -> Generator[openai.OpenAI, None, None]:
    """OpenAI's client, which raises for an answer that is not of its types."""
    with openai.OpenAI(
        base_url=f"{server.base_url}/v1",
        api_key="unused",
        max_retries=0,
        timeout=60,
        _strict_response_validation=True,
    ) as client:
        yield client


def body_of(path: str, name: str, parameter: Parameter, value: Any) -> dict[str, Any]:
    body = {**BASES[path], **(parameter.also or {}), name: value}
    if name == "max_completion_tokens":
        del body["max_tokens"]
    if name in ("response_format", "tool_choice"):
        body["max_tokens"] = 60
    return body


# Requests


@pytest.mark.parametrize("path", FACES)
def test_every_documented_parameter_is_decided(path: str) -> None:
    documented = {name for type_ in TYPES[path] for name in get_type_hints(type_)}
    assert documented == set(FACES[path])


def test_every_kind_of_content_is_decided() -> None:
    kinds = {get_args(get_type_hints(part)["type"])[0] for part in get_args(ChatCompletionContentPartParam)}
    assert kinds == set(PARTS)


def test_the_models_resource_has_no_method_that_is_not_decided() -> None:
    methods = {name for name in dir(openai.resources.Models) if not name.startswith(("_", "with_"))}
    assert methods == {"list", "retrieve", "delete"}


@pytest.mark.parametrize(("path", "name", "parameter"), EVERY)
def test_the_engine_answers_or_refuses_it(http: httpx.Client, path: str, name: str, parameter: Parameter) -> None:
    response = http.post(path, json=body_of(path, name, parameter, parameter.value))
    if parameter.verdict == "refused":
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", name)
        assert error["type"] == "invalid_request_error"
        assert f"'{name}'" in error["message"]
        return
    assert response.status_code == 200, response.text
    if parameter.shows is not None:
        assert parameter.shows(response.json()), response.text
    if name in ("stream", "stream_options"):
        assert response.text.endswith("data: [DONE]\n\n")
        assert ('"choices":[],"usage":{' in response.text) == (name == "stream_options")


@pytest.mark.parametrize(("path", "name", "parameter"), NEUTRAL)
def test_what_is_refused_is_taken_where_it_asks_for_nothing(
    http: httpx.Client, path: str, name: str, parameter: Parameter
) -> None:
    response = http.post(path, json=body_of(path, name, parameter, parameter.neutral))
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("path", FACES)
def test_null_is_the_same_as_nothing(http: httpx.Client, path: str) -> None:
    response = http.post(path, json={**dict.fromkeys(FACES[path]), **BASES[path]})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("kind", PARTS)
def test_the_engine_reads_text_and_refuses_what_it_cannot_see(http: httpx.Client, kind: str) -> None:
    message = {"role": "user", "content": [{"type": kind, **PARTS[kind]}]}
    response = http.post("/v1/chat/completions", json={**BASES["/v1/chat/completions"], "messages": [message]})
    if kind == "text":
        assert response.status_code == 200, response.text
    else:
        assert (response.status_code, response.json()["error"]["param"]) == (400, "messages[0].content[0].type")


@pytest.mark.parametrize(("path", "name", "parameter"), PASSED_ON)
def test_another_upstream_gets_it_as_it_is(faulty: FaultGateway, path: str, name: str, parameter: Parameter) -> None:
    stream = name in ("stream", "stream_options")
    case = Case("ok", "stream" if stream else "whole", "alone")
    body = {**body_of(path, name, parameter, parameter.value), "model": case.route, "genkan": {"cache": "no-cache"}}
    response = httpx.post(f"{faulty.base_url}{path}", json=body, timeout=30, trust_env=False)
    attempts = [attempt["body"] for attempt in faulty.attempts(case)]
    assert len(attempts) == 1, response.text
    got = attempts[0]
    if name == "model":
        assert got["model"] == case.name_there
    else:
        assert got[name] == parameter.value
    added = {"stream_options"} if stream else set()  # so that what is billed is known
    assert set(got) - set(body) <= added


# Answers


def test_answers_are_of_the_clients_types(strict: openai.OpenAI) -> None:
    chat = strict.chat.completions.create(model=MODEL, messages=TYPED, max_tokens=3, logprobs=True, n=2)
    assert chat.choices[0].message.role == "assistant"
    assert chat.usage is not None
    text = strict.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=3, logprobs=1)
    assert text.choices[0].finish_reason == "length"
    assert [model.id for model in strict.models.list()] == [MODEL, "default", E5]
    assert strict.models.retrieve("default").id == "default"
    embedded = strict.embeddings.create(model=E5, input=["a", "b"], encoding_format="float")
    assert [item.index for item in embedded.data] == [0, 1]


def test_embeddings_are_read_as_the_client_asks_for_them_by_itself(sdk: openai.OpenAI) -> None:
    """In base64, for which its types have no room."""
    embedded = sdk.embeddings.create(model=E5, input=["a", "b"])
    assert [len(item.embedding) for item in embedded.data] == [384, 384]


def test_streams_are_of_the_clients_types(strict: openai.OpenAI, sdk: openai.OpenAI) -> None:
    chunks = [
        *strict.chat.completions.create(
            model=MODEL,
            messages=TYPED,
            max_tokens=3,
            stream=True,
            stream_options={"include_usage": True},
        )
    ]
    assert chunks[-1].usage is not None
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
    # Its type for a text that goes on has no null for the reason of an end, which OpenAI sends all the same.
    texts = [*sdk.completions.create(model=MODEL, prompt="Once", max_tokens=3, stream=True)]
    assert texts[-1].choices[0].finish_reason == "length"


def test_calls_are_of_the_clients_types(strict: openai.OpenAI) -> None:
    asked: Any = {"model": MODEL, "messages": MESSAGES, "tools": TOOLS, "tool_choice": "required", "max_tokens": 60}
    whole = strict.chat.completions.create(**asked)
    assert whole.choices[0].finish_reason == "tool_calls"
    pieces = [*strict.chat.completions.create(**asked, stream=True)]
    assert pieces[-1].choices[0].finish_reason == "tool_calls"


def test_refusals_are_of_the_clients_classes(strict: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        strict.chat.completions.create(model=MODEL, messages=TYPED, verbosity="low")
    assert (refused.value.param, refused.value.code) == ("verbosity", "unsupported_parameter")
    with pytest.raises(openai.NotFoundError) as missing:
        strict.models.retrieve("gpt-4o")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.APIStatusError) as not_allowed:
        strict.models.delete("default")
    assert (not_allowed.value.status_code, not_allowed.value.code) == (405, "method_not_allowed")


# The document


@pytest.mark.parametrize("path", FACES)
def test_the_document_says_the_same(path: str) -> None:
    section = DOCUMENT.read_text(encoding="utf-8").partition(f"### `POST {path}`")[2].partition("\n##")[0]
    rows = re.findall(r"^\| `([a-z_]+)` \| (\w+)", section, flags=re.MULTILINE)
    assert dict(rows) == {name: parameter.verdict for name, parameter in FACES[path].items()}
    assert [name for name, _ in rows] == sorted(FACES[path])
