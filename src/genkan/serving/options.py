"""Which request options the engine honours. Every other one is refused by name, never dropped.

An option at its neutral value, the one that changes nothing, is accepted, because clients send such defaults.
Options that only label a request or steer accounting have no effect on the answer and are accepted with any value.
"""

from typing import Any, Final

from genkan.errors import UnsupportedOption
from genkan.wire.chat import ChatRequest, GenerationRequest
from genkan.wire.extras import OWN_KEYS, Extras

#: Read by wire/chat.py, and honoured.
_HONOURED: Final = frozenset(
    {
        "model", "messages", "prompt", "stream", "stream_options", "max_tokens", "max_completion_tokens",
        "temperature", "top_p", "top_k", "min_p", "seed", "stop", "ignore_eos", "n", "cache_salt",
    }
)  # fmt: skip
_STREAM_OPTIONS: Final = ("include_usage", "include_obfuscation")  # the second pads chunks and changes no text
#: Labels: no effect on what is generated.
_LABELS: Final = frozenset({"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"})
#: Not honoured: accepted only at one of these values.
_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "n": (1,),
    "best_of": (1,),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "beam_width": (1,),
    "use_beam_search": (False,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "min_tokens": (0,),
}


def refuse_unsupported(request: GenerationRequest) -> None:
    """Raises UnsupportedOption for the first option that this engine would have to ignore."""
    foreign = ("prompt",) if isinstance(request, ChatRequest) else ("messages", "max_completion_tokens")
    for name, value in request.raw.items():
        if value is None or name in _LABELS or name in OWN_KEYS:
            continue
        if name in _NEUTRAL:
            _check_neutral(name, value)
        elif name not in _HONOURED or name in foreign:
            raise UnsupportedOption(name[:200], "the engine does not know it")
    _check_extras(request.extras)
    _refuse_others(request.raw.get("stream_options") or {}, "stream_options", _STREAM_OPTIONS)
    if isinstance(request, ChatRequest):
        _check_messages(request.messages)


def _check_extras(extras: Extras) -> None:
    """Nobody goes first yet: asking for nothing is fine. Stored answers are the gateway's matter."""
    if extras.priority:
        raise UnsupportedOption("genkan.priority", "the engine knows no priorities yet")


def _check_neutral(name: str, value: Any) -> None:
    neutral = _NEUTRAL[name]
    # True == 1 in Python, so a flag where a number belongs must not pass for it.
    if not any(value == allowed and isinstance(value, bool) == isinstance(allowed, bool) for allowed in neutral):
        only = " or ".join(repr(allowed) for allowed in neutral)
        raise UnsupportedOption(name, f"only its neutral value {only} is accepted")


def _check_messages(messages: list[dict[str, Any]]) -> None:
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if message["role"] in ("tool", "function"):
            raise UnsupportedOption(f"{path}.role", f"role '{message['role']}' needs tool calls")
        _refuse_others(message, path, ("role", "content"))
        if isinstance(content := message.get("content"), list):
            for place, part in enumerate(content):
                _check_part(part, f"{path}.content[{place}]")


def _check_part(part: dict[str, Any], path: str) -> None:
    if part["type"] != "text":
        raise UnsupportedOption(f"{path}.type", f"only text parts; given: '{part['type'][:100]}'")
    _refuse_others(part, path, ("type", "text"))


def _refuse_others(values: dict[str, Any], path: str, known: tuple[str, ...]) -> None:
    for name, value in values.items():
        if name not in known and value not in (None, [], ""):
            raise UnsupportedOption(f"{path}.{name[:200]}", "the engine does not know it")
