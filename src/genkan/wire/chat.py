"""The requests that generate text: a typed view of what policy needs, beside the raw body.

A body is parsed once. Fields that genkan reads are checked here, for every upstream alike, against the ranges of
OpenAI's API reference, or vLLM's for those that are its own (``top_k``, ``min_p``, ``ignore_eos``, ``cache_salt``).
Fields it does not know stay in ``raw`` and reach the upstream untouched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple, Self

from genkan.errors import InvalidRequest
from genkan.wire.extras import Extras, read_extras
from genkan.wire.fields import Fields, wrong_type
from genkan.wire.strict_json import parse_object

MAX_STOPS = 4
MAX_STOP_CHARS = 256
MAX_TOKENS = 2**31 - 1
MAX_MODEL_CHARS = 256
MAX_TOP_K = 1_000_000
MAX_SALT_CHARS = 256
ROLES = ("system", "developer", "user", "assistant", "tool", "function")


class Sampling(NamedTuple):
    """How to choose tokens and when to end; ``None`` is "the model's default", of ``top_k`` "all"."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    n: int = 1


#: Other models that gateways behind us (OpenRouter, LiteLLM) are to ask when the one that is asked for fails.
_OTHER_MODELS = ("models", "fallbacks")
_TEXT_LABELS = ("user", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention")
_LABELS = frozenset({*_TEXT_LABELS, "store", "metadata"})


@dataclass(slots=True, kw_only=True)
class GenerationRequest:
    """One request for generated text.

    ``raw`` is the whole body as it came, extras included, and is never changed. Requests share cached prefixes only
    with those of the same ``cache_salt``.
    """

    # Final, and not a frozen dataclass: mypy keeps it from being changed, where a frozen one costs 100 ns a field.

    path: ClassVar[str]

    model: Final[str]
    stream: Final[bool]
    include_usage: Final[bool]
    sampling: Final[Sampling]
    cache_salt: Final[str | None]
    extras: Final[Extras]
    raw: Final[dict[str, Any]]


@dataclass(slots=True, kw_only=True)
class ChatRequest(GenerationRequest):
    """A body of ``POST /v1/chat/completions``; ``messages`` are checked objects of ``raw``."""

    path: ClassVar[str] = "/v1/chat/completions"

    messages: Final[list[dict[str, Any]]]

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Raises InvalidRequest naming the field that is wrong. Cost: one JSON parse, one pass over the messages."""
        return cls.from_object(parse_object(body))

    @classmethod
    def from_object(cls, raw: dict[str, Any]) -> Self:
        fields = Fields(raw)
        view = _common(fields, raw)
        max_tokens = _max_tokens(fields, raw)
        if "logprobs" in raw or "top_logprobs" in raw:
            fields.boolean("logprobs")
            fields.integer("top_logprobs", low=0, high=20)
        return cls(messages=_messages(fields), sampling=_sampling(fields, raw, max_tokens), **view)


@dataclass(slots=True, kw_only=True)
class CompletionRequest(GenerationRequest):
    """A body of ``POST /v1/completions``; ``prompts`` are texts or lists of token ids, one or more."""

    path: ClassVar[str] = "/v1/completions"

    prompts: Final[list[str] | list[list[int]]]

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Raises InvalidRequest naming the field that is wrong."""
        return cls.from_object(parse_object(body))

    @classmethod
    def from_object(cls, raw: dict[str, Any]) -> Self:
        fields = Fields(raw)
        view = _common(fields, raw)
        max_tokens = fields.integer("max_tokens", low=1, high=MAX_TOKENS)
        fields.integer("logprobs", low=0, high=20)
        fields.integer("best_of", low=1, high=20)
        fields.boolean("echo")
        fields.string("suffix")
        return cls(prompts=_prompts(fields.require("prompt")), sampling=_sampling(fields, raw, max_tokens), **view)


def refuse_other_models(request: GenerationRequest) -> None:
    """Raises InvalidRequest where the body names models besides ``model``: nobody here knows what they cost.

    For callers that are limited to some models, or by a budget; for others the field goes on as it is.
    """
    for name in _OTHER_MODELS:
        if request.raw.get(name):
            error = InvalidRequest(
                f"'{name}' is not allowed for this API key: it is limited to some models or by a budget, and other "
                "models can only be reached by routes.",
                param=name,
            )
            error.should_retry = False
            raise error


def _common(fields: Fields, raw: dict[str, Any]) -> dict[str, Any]:
    model = fields.string("model", max_chars=MAX_MODEL_CHARS)
    if model is None:
        raise fields.missing("model")
    if not _LABELS.isdisjoint(raw):
        _check_labels(fields)
    stream = fields.boolean("stream") or False
    return {
        "model": model,
        "stream": stream,
        "include_usage": "stream_options" in raw and _include_usage(fields, stream),
        "cache_salt": _cache_salt(fields) if "cache_salt" in raw else None,
        "extras": read_extras(raw),
        "raw": raw,
    }


def _max_tokens(fields: Fields, raw: dict[str, Any]) -> int | None:
    """Of a chat, where the field has a newer name."""
    newer = None
    if "max_completion_tokens" in raw:
        newer = fields.integer("max_completion_tokens", low=1, high=MAX_TOKENS)
    older = fields.integer("max_tokens", low=1, high=MAX_TOKENS)
    if newer is None:
        return older
    if older not in (None, newer):
        raise InvalidRequest("'max_tokens' and 'max_completion_tokens' contradict each other.", param="max_tokens")
    return newer


def _check_labels(fields: Fields) -> None:
    for label in _TEXT_LABELS:
        fields.string(label)
    fields.boolean("store")
    fields.object("metadata")


def _include_usage(fields: Fields, stream: bool) -> bool:
    options = fields.object("stream_options")
    if options is None:
        return False
    if not stream:
        raise InvalidRequest("'stream_options' is only allowed when 'stream' is true.", param="stream_options")
    options.boolean("include_obfuscation")
    return options.boolean("include_usage") or False


def _cache_salt(fields: Fields) -> str | None:
    salt = fields.string("cache_salt", max_chars=MAX_SALT_CHARS)
    if salt == "":
        raise InvalidRequest("'cache_salt' must not be empty.", param="cache_salt")
    return salt


def _sampling(fields: Fields, raw: dict[str, Any], max_tokens: int | None) -> Sampling:
    options: dict[str, Any] = {"max_tokens": max_tokens}
    for name in sorted(raw.keys() & _SAMPLING.keys(), key=_SAMPLING_ORDER):
        value = _SAMPLING[name](fields, name)
        if value is not None:
            options[name] = value
    return Sampling(**options)


def _check_penalty(fields: Fields, name: str) -> None:
    fields.number(name, low=-2, high=2)


def _top_k(fields: Fields, name: str) -> int | None:
    top_k = fields.integer(name, low=-1, high=MAX_TOP_K)
    return None if top_k in (-1, 0) else top_k  # both are vLLM's way to say "all"


def _stop(fields: Fields, name: str) -> tuple[str, ...] | None:
    value = fields.raw(name)
    if value is None:
        return None
    stops = [value] if type(value) is str else value
    if type(stops) is not list:
        raise wrong_type("stop", "a string or a list of strings", value)
    if len(stops) > MAX_STOPS:
        raise InvalidRequest(f"'stop' must have at most {MAX_STOPS} entries; given: {len(stops)}.", param="stop")
    for index, stop in enumerate(stops):
        path = "stop" if stops is not value else f"stop[{index}]"
        if type(stop) is not str:
            raise wrong_type(path, "a string", stop)
        if not 1 <= len(stop) <= MAX_STOP_CHARS:
            raise InvalidRequest(
                f"'{path}' must have 1 to {MAX_STOP_CHARS} characters; given: {len(stop)}.", param=path
            )
    return tuple(stops)


def _check_logit_bias(fields: Fields, name: str) -> None:
    bias = fields.object(name)
    if bias is None:
        return
    entries = fields.raw(name)
    if len(entries) > 300:
        raise InvalidRequest(f"'logit_bias' must have at most 300 entries; given: {len(entries)}.", param="logit_bias")
    for token in entries:
        if not (token.isascii() and token.isdecimal()):
            raise InvalidRequest("'logit_bias' keys must be token ids.", param="logit_bias")
        bias.number(token, low=-100, high=100)


#: How each option is read, in the order in which what is wrong is told. None is "as `Sampling` has it": the option is
#: absent, or one that is only checked here. Few requests have many: only those that are there are looked for.
_SAMPLING: dict[str, Callable[[Fields, str], Any]] = {
    "presence_penalty": _check_penalty,
    "frequency_penalty": _check_penalty,
    "logit_bias": _check_logit_bias,
    "temperature": partial(Fields.number, low=0, high=2),
    "top_p": partial(Fields.number, low=0, high=1, above_low=True),
    "top_k": _top_k,
    "min_p": partial(Fields.number, low=0, high=1),
    "seed": partial(Fields.integer, low=-(2**63), high=2**63 - 1),
    "stop": _stop,
    "ignore_eos": Fields.boolean,
    "n": partial(Fields.integer, low=1, high=128),
}
_SAMPLING_ORDER = tuple(_SAMPLING).index


def _messages(fields: Fields) -> list[dict[str, Any]]:
    messages = fields.list("messages")
    if messages is None:
        raise fields.missing("messages")
    if not messages:
        raise InvalidRequest("'messages' must have at least one message.", param="messages")
    for index, message in enumerate(messages):
        if (
            type(message) is dict
            and len(message) == 2
            and type(message.get("content")) is str
            and message.get("role") in ROLES
        ):
            continue  # as nearly all are
        _check_message(message, f"messages[{index}]")
    return messages


def _check_message(message: Any, path: str) -> None:
    if type(message) is not dict:
        raise wrong_type(path, "an object", message)
    fields = Fields(message, path)
    fields.require("role")
    role = fields.choice("role", ROLES)
    fields.string("name")
    content = message.get("content")
    if type(content) is list:
        _check_parts(content, f"{path}.content")
    elif type(content) is not str and not (content is None and role in ("assistant", "function")):
        raise wrong_type(f"{path}.content", "a string or a list of parts", content)


def _check_parts(parts: list[Any], path: str) -> None:
    if not parts:
        raise InvalidRequest(f"'{path}' must have at least one part.", param=path)
    for index, part in enumerate(parts):
        if type(part) is not dict:
            raise wrong_type(f"{path}[{index}]", "an object", part)
        fields = Fields(part, f"{path}[{index}]")
        fields.require("type")
        if fields.string("type") == "text":
            fields.string("text")
            fields.require("text")


def _prompts(prompt: Any) -> list[str] | list[list[int]]:
    if type(prompt) is str:
        return [prompt]
    if type(prompt) is not list:
        raise wrong_type("prompt", "a string, a list of strings or a list of token ids", prompt)
    if not prompt:
        raise InvalidRequest("'prompt' must not be empty.", param="prompt")
    if type(prompt[0]) is int:
        return [_token_ids(prompt, "prompt")]
    if type(prompt[0]) is list:
        return [_token_ids(ids, f"prompt[{index}]") for index, ids in enumerate(prompt)]
    for index, text in enumerate(prompt):
        if type(text) is not str:
            raise wrong_type(f"prompt[{index}]", "a string", text)
    return prompt


def _token_ids(ids: Any, path: str) -> list[int]:
    if type(ids) is not list:
        raise wrong_type(path, "a list of token ids", ids)
    if not ids:
        raise InvalidRequest(f"'{path}' must not be empty.", param=path)
    for index, token in enumerate(ids):
        if type(token) is not int:
            raise wrong_type(f"{path}[{index}]", "an integer", token)
        if token < 0:
            raise InvalidRequest(f"'{path}[{index}]' must not be negative; given: {token}.", param=f"{path}[{index}]")
    return ids
