"""The requests that generate text: a typed view of what policy needs, beside the raw body.

A body is parsed once. Fields that genkan reads are checked here, for every upstream alike, against the ranges of
OpenAI's API reference, or vLLM's for those that are its own. Fields it does not know stay in ``raw`` and reach the
upstream untouched.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from genkan.errors import InvalidRequest
from genkan.wire.extras import Extras, read_extras
from genkan.wire.fields import Fields, wrong_type
from genkan.wire.messages import read_messages
from genkan.wire.sampling import MAX_TOKENS, MAX_TOP_LOGPROBS, Sampling, chat_logprobs, read_sampling
from genkan.wire.strict_json import parse_object

MAX_MODEL_CHARS = 256
MAX_SALT_CHARS = 256

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
        logprobs = chat_logprobs(fields, raw)
        return cls(messages=read_messages(fields), sampling=read_sampling(fields, raw, max_tokens, logprobs), **view)


@dataclass(slots=True, kw_only=True)
class CompletionRequest(GenerationRequest):
    """A body of ``POST /v1/completions``; ``prompts`` are texts or lists of token ids, one or more.

    ``echo``: each answer begins with its prompt, and may consist of nothing else.
    """

    path: ClassVar[str] = "/v1/completions"

    prompts: Final[list[str] | list[list[int]]]
    echo: Final[bool]

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Raises InvalidRequest naming the field that is wrong."""
        return cls.from_object(parse_object(body))

    @classmethod
    def from_object(cls, raw: dict[str, Any]) -> Self:
        fields = Fields(raw)
        view = _common(fields, raw)
        echo = fields.boolean("echo") or False
        max_tokens = fields.integer("max_tokens", low=0 if echo else 1, high=MAX_TOKENS)
        logprobs = fields.integer("logprobs", low=0, high=MAX_TOP_LOGPROBS)
        fields.integer("best_of", low=1, high=20)
        fields.string("suffix")
        prompts = _prompts(fields.require("prompt"))
        return cls(prompts=prompts, echo=echo, sampling=read_sampling(fields, raw, max_tokens, logprobs), **view)


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
