"""Every parameter of OpenAI's API that genkan's faces have, with a value, and what genkan's engine makes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

#: ``answered``: it has its effect. ``label``: it says something about the request and nothing about the answer.
#: ``refused``: 400, which names it.
Verdict = Literal["answered", "label", "refused"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """``value`` has an effect; ``neutral``, where one is accepted of a parameter that is refused, has none.

    ``shows`` tells from one answer that it had its effect; where that takes more than one answer, another test does.
    """

    verdict: Verdict
    value: Any
    shows: Callable[[dict[str, Any]], object] | None = None
    neutral: Any = None
    also: dict[str, Any] | None = None  # without which it is not allowed


def _choice(answer: dict[str, Any]) -> dict[str, Any]:
    return dict(answer["choices"][0])


def _text(answer: dict[str, Any]) -> str:
    choice = _choice(answer)
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


MESSAGES: Final = [{"role": "user", "content": "What is the capital of France?"}]
TOOLS: Final = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
_SCHEMA: Final = {
    "type": "json_schema",
    "json_schema": {
        "name": "s",
        "strict": True,
        "schema": {"type": "object", "properties": {}, "additionalProperties": False},
    },
}
_OUTPUT: Final[dict[str, Parameter]] = {
    "frequency_penalty": Parameter("answered", 0.5),
    "logit_bias": Parameter("answered", {"28": 100}, lambda answer: len(set(_text(answer))) == 1),
    "max_tokens": Parameter("answered", 2, lambda answer: answer["usage"]["completion_tokens"] == 2),
    "model": Parameter("answered", "default"),
    "n": Parameter("answered", 2, lambda answer: len(answer["choices"]) == 2),
    "presence_penalty": Parameter("answered", 0.5),
    "seed": Parameter("answered", 7),
    "stop": Parameter("answered", ["a", "e", "i", "o"], lambda answer: not set("aeio") & set(_text(answer))),
    "stream": Parameter("answered", True),
    "stream_options": Parameter("answered", {"include_usage": True}, also={"stream": True}),
    "temperature": Parameter("answered", 0.0),
    "top_p": Parameter("answered", 0.5),
    "user": Parameter("label", "someone"),
}
CHAT: Final[dict[str, Parameter]] = {
    **_OUTPUT,
    "audio": Parameter("refused", {"voice": "alloy", "format": "wav"}),
    "function_call": Parameter("refused", {"name": "f"}, neutral="none"),
    "functions": Parameter("refused", [TOOLS[0]["function"]], neutral=[]),
    "logprobs": Parameter("answered", True, lambda answer: _choice(answer)["logprobs"]["content"]),
    "max_completion_tokens": Parameter("answered", 2, lambda answer: answer["usage"]["completion_tokens"] == 2),
    "messages": Parameter("answered", MESSAGES),
    "metadata": Parameter("label", {"a": "b"}),
    "modalities": Parameter("refused", ["text", "audio"], neutral=["text"]),
    "moderation": Parameter("refused", {"model": "omni-moderation-latest"}),
    "parallel_tool_calls": Parameter("answered", False, also={"tools": TOOLS}),
    "prediction": Parameter("refused", {"type": "content", "content": "Paris"}),
    "prompt_cache_key": Parameter("label", "k"),
    "prompt_cache_options": Parameter("refused", {"ttl": "30m"}),
    "prompt_cache_retention": Parameter("label", "24h"),
    "reasoning_effort": Parameter("refused", "low"),
    "response_format": Parameter("answered", _SCHEMA, lambda answer: _text(answer) == "{}"),
    "safety_identifier": Parameter("label", "u1"),
    "service_tier": Parameter("refused", "flex", neutral="auto"),
    "store": Parameter("refused", True, neutral=False),
    "tool_choice": Parameter(
        "answered", "required", lambda answer: _choice(answer)["message"]["tool_calls"], also={"tools": TOOLS}
    ),
    "tools": Parameter("answered", TOOLS),
    "top_logprobs": Parameter(
        "answered",
        2,
        lambda answer: len(_choice(answer)["logprobs"]["content"][0]["top_logprobs"]) == 2,
        also={"logprobs": True},
    ),
    "verbosity": Parameter("refused", "low"),
    "web_search_options": Parameter("refused", {"search_context_size": "low"}),
}
COMPLETIONS: Final[dict[str, Parameter]] = {
    **_OUTPUT,
    "best_of": Parameter("refused", 2, neutral=1),
    "echo": Parameter("answered", True, lambda answer: _text(answer).startswith("Once upon a time")),
    "logprobs": Parameter("answered", 2, lambda answer: _choice(answer)["logprobs"]["tokens"]),
    "prompt": Parameter("answered", "Once upon a time"),
    "suffix": Parameter("refused", "The end.", neutral=""),
}
EMBEDDINGS: Final[dict[str, Parameter]] = {
    "dimensions": Parameter("answered", 8, lambda answer: len(answer["data"][0]["embedding"]) == 8),
    "encoding_format": Parameter("answered", "base64", lambda answer: isinstance(answer["data"][0]["embedding"], str)),
    "input": Parameter("answered", ["a", "b"], lambda answer: len(answer["data"]) == 2),
    "model": Parameter("answered", "multilingual-e5-small"),
    "user": Parameter("label", "someone"),
}
