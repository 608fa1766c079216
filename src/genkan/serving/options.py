"""Which request options an engine honours. Every other one is refused by name, never dropped.

An option at its neutral value, the one that changes nothing, is accepted, because clients send such defaults.
Options that only label a request or steer accounting have no effect on the answer and are accepted with any value.
"""

from collections.abc import Set as AbstractSet
from typing import Any, Final

from genkan.engine.client import Capability
from genkan.engine.grammar.spec import GrammarKind
from genkan.errors import UnsupportedOption
from genkan.wire.chat import ChatRequest, CompletionRequest, GenerationRequest
from genkan.wire.extras import OWN_KEYS

_Capabilities = AbstractSet[Capability]

#: Read elsewhere, and honoured by every engine. Forms of answers and tools are looked at by those who read them.
_HONOURED: Final = frozenset(
    {
        "model", "messages", "prompt", "stream", "stream_options", "max_tokens", "max_completion_tokens",
        "temperature", "top_p", "stop", "stop_token_ids", "include_stop_str_in_output", "echo", "best_of",
        "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "top_logprobs",
        "continue_text",
    }
)  # fmt: skip
#: The names under which a form of the answer is asked for.
_FORM_NAMES: Final = (
    "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "response_format",
)  # fmt: skip
_FOREIGN_TO_CHAT: Final = frozenset({"prompt"})
_FOREIGN_TO_COMPLETION: Final = frozenset({"messages", "max_completion_tokens"})
_STREAM_OPTIONS: Final = ("include_usage", "include_obfuscation")  # the second pads chunks and changes no text
#: Labels: no effect on what is generated.
_LABELS: Final = frozenset({"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"})
#: Honoured by no engine: accepted only at one of these values.
_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "store": (False,),
    "service_tier": ("auto", "default"),
    "beam_width": (1,),
    "use_beam_search": (False,),
    "suffix": ("",),
    "modalities": (["text"],),
}
_NEUTRAL_IN_CHAT: Final[dict[str, tuple[Any, ...]]] = {"echo": (False,), "best_of": (1,)}
_NEUTRAL_IN_COMPLETION: Final[dict[str, tuple[Any, ...]]] = {
    "top_logprobs": (0,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
}
#: What an engine must be able to do, unless the option has one of these values.
_NEEDS: Final[dict[str, tuple[Capability, tuple[Any, ...]]]] = {
    "top_k": (Capability.TOP_K, (-1, 0)),
    "min_p": (Capability.MIN_P, (0,)),
    "seed": (Capability.SEED, ()),
    "ignore_eos": (Capability.IGNORE_EOS, (False,)),
    "min_tokens": (Capability.MIN_TOKENS, (0,)),
    "repetition_penalty": (Capability.REPETITION_PENALTY, (1,)),
    "presence_penalty": (Capability.PRESENCE_PENALTY, (0,)),
    "frequency_penalty": (Capability.FREQUENCY_PENALTY, (0,)),
    "logit_bias": (Capability.LOGIT_BIAS, ({},)),
    "logprobs": (Capability.LOGPROBS, (False,)),
    "n": (Capability.SEVERAL_ANSWERS, (1,)),
    "priority": (Capability.PRIORITY, (0,)),
    "cache_salt": (Capability.CACHE_SALT, ()),
}
_FORMS: Final[dict[GrammarKind, Capability]] = {
    "json_object": Capability.JSON,
    "json_schema": Capability.JSON,
    "regex": Capability.REGEX,
    "choice": Capability.CHOICE,
    "lark": Capability.GRAMMAR,
}
#: A tool's ``name`` is that of the call which its result answers: some clients repeat it.
_MESSAGE_KEYS: Final = {
    "assistant": ("role", "content", "tool_calls"),
    "tool": ("role", "content", "tool_call_id", "name"),
}
_CANNOT = "its engine cannot do that"


def refuse_unsupported(request: GenerationRequest, capabilities: _Capabilities) -> None:
    """Raises UnsupportedOption for the first option that an engine of these ``capabilities`` would have to ignore."""
    chat = isinstance(request, ChatRequest)
    foreign = _FOREIGN_TO_CHAT if chat else _FOREIGN_TO_COMPLETION
    neutral = _NEUTRAL | (_NEUTRAL_IN_CHAT if chat else _NEUTRAL_IN_COMPLETION)
    for name, value in request.raw.items():
        if value is None or name in _LABELS or name in OWN_KEYS:
            continue
        if name in neutral:
            _check_neutral(name, value, neutral[name])
        elif name in _NEEDS:
            capability, unasked = _NEEDS[name]
            if capability not in capabilities and not _is_any_of(value, unasked):
                raise UnsupportedOption(name, _CANNOT)
        elif (name not in _HONOURED or name in foreign) and name not in _FORM_NAMES:
            raise UnsupportedOption(name[:200], "the engine does not know it")
    _check_extras(request, capabilities)
    _refuse_others(request.raw.get("stream_options") or {}, "stream_options", _STREAM_OPTIONS)
    if isinstance(request, ChatRequest):
        _check_messages(request.messages)
    elif isinstance(request, CompletionRequest) and request.echo and request.sampling.logprobs is not None:
        _need(Capability.PROMPT_LOGPROBS, capabilities, "echo")


def refuse_form(kind: GrammarKind, capabilities: _Capabilities, param: str) -> None:
    """Raises UnsupportedOption, naming ``param``, where an engine cannot keep answers to such a form."""
    _need(_FORMS[kind], capabilities, param)


def can_form(kind: GrammarKind, capabilities: _Capabilities) -> bool:
    """Whether an engine can keep answers to such a form."""
    return _FORMS[kind] in capabilities


def form_name(request: GenerationRequest) -> str:
    """The option by which ``request`` asks for a form of its answer: ``tools`` if by no other."""
    return next((name for name in _FORM_NAMES if request.raw.get(name) is not None), "tools")


def _check_extras(request: GenerationRequest, capabilities: _Capabilities) -> None:
    """Asking for nothing is fine. Stored answers are the gateway's matter."""
    extras = request.extras
    for asked, capability in (
        (extras.priority and "priority" not in request.raw, Capability.PRIORITY),
        (extras.prefix_cache is False, Capability.PREFIX_CACHE_SWITCH),
        (extras.prefix_ttl_s is not None, Capability.PREFIX_TTL),
        (extras.prefix_pin, Capability.PREFIX_PIN),
    ):
        if asked:
            _need(capability, capabilities, capability.value)


def _need(capability: Capability, capabilities: _Capabilities, param: str) -> None:
    if capability not in capabilities:
        raise UnsupportedOption(param, _CANNOT)


def _check_neutral(name: str, value: Any, neutral: tuple[Any, ...]) -> None:
    if not _is_any_of(value, neutral):
        only = " or ".join(repr(allowed) for allowed in neutral)
        raise UnsupportedOption(name, f"only its neutral value {only} is accepted")


def _is_any_of(value: Any, values: tuple[Any, ...]) -> bool:
    # True == 1 in Python, so a flag where a number belongs must not pass for it.
    return any(value == allowed and isinstance(value, bool) == isinstance(allowed, bool) for allowed in values)


def _check_messages(messages: list[dict[str, Any]]) -> None:
    for index, message in enumerate(messages):
        path, role = f"messages[{index}]", message["role"]
        if role == "function":
            raise UnsupportedOption(f"{path}.role", "role 'function' is no more; results of tools have role 'tool'")
        _refuse_others(message, path, _MESSAGE_KEYS.get(role, ("role", "content")))
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
