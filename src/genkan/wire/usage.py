"""Tokens that a request took, as upstreams count them. No I/O.

Theory. What costs differently is counted apart: fresh prompt tokens, prompt tokens read from a provider's cache, those
written to it, and answer tokens. In `Usage` the cache's tokens are part of the prompt, and reasoning is part of the
completion; providers name and nest them differently:

* OpenAI, Azure, vLLM, SGLang, llama.cpp: ``prompt_tokens`` with ``prompt_tokens_details.cached_tokens`` inside it, and
  ``completion_tokens`` with reasoning inside it. Details may be null.
* DeepSeek: ``prompt_cache_hit_tokens``, inside ``prompt_tokens``. Moonshot: ``cached_tokens`` beside them.
* OpenRouter, LiteLLM: ``prompt_tokens_details.cache_write_tokens`` or ``.cache_creation_tokens``, inside. A ``cost``
  beside them is the provider's own matter and ignored.
* Gemini, xAI: thoughts are outside ``completion_tokens`` but inside ``total_tokens``, and billed as output.
* Anthropic's own shape: ``input_tokens`` and ``output_tokens``, with ``cache_read_input_tokens`` and
  ``cache_creation_input_tokens`` outside. OpenAI's Responses have the first two names, with
  ``input_tokens_details.cached_tokens`` inside.

Details are worth less than the counts that they detail: those that cannot be read are left out. More cached tokens
than the prompt has cannot be part of it: gateways that translate half of Anthropic's shape send
that, and there they come on top. Source: the providers' API references, November 2026.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_PLAIN = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})  # all that many servers say
MAX_TOKENS = 10**9  # of one count; what says more counts something else


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one request."""

    prompt: int  # all of it, whatever came from a cache
    completion: int  # with reasoning, shown or not
    cached: int = 0  # of the prompt, read from a cache
    cache_write: int = 0  # of the prompt, written to a cache

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    @classmethod
    def read(cls, raw: object) -> "Usage | None":
        """What an upstream's ``usage`` says. None if it says nothing, not enough, or something that is no count.

        A count is a whole number from 0 to 10^9, as ``5`` or ``5.0``: no text, no fraction, no truth value. About 2 µs.
        """
        if not isinstance(raw, dict):
            return None
        try:
            return _read(raw)
        except _NotACount:
            return None


class _NotACount(Exception):
    """Where a number of tokens belongs is something else, or nothing."""


def _read(raw: Mapping[str, Any]) -> Usage:
    if raw.keys() == _PLAIN:
        prompt, completion, total = raw["prompt_tokens"], raw["completion_tokens"], raw["total_tokens"]
        is_plain = type(prompt) is type(completion) is type(total) is int and prompt + completion == total
        if is_plain and prompt >= 0 and completion >= 0 and total <= MAX_TOKENS:
            return Usage(prompt, completion)
    if raw.get("prompt_tokens") is None:
        return _read_native(raw)
    details = _section(raw, "prompt_tokens_details")
    cached = max(
        _detail(details, "cached_tokens"),
        _detail(raw, "prompt_cache_hit_tokens"),
        _detail(raw, "cache_read_input_tokens"),
        _detail(raw, "cached_tokens"),
    )
    cache_write = max(
        _detail(details, "cache_write_tokens"),
        _detail(details, "cache_creation_tokens"),
        _detail(raw, "cache_creation_input_tokens"),
    )
    prompt, completion, total = (_count(raw, name) for name in ("prompt_tokens", "completion_tokens", "total_tokens"))
    if raw.get("completion_tokens") is None and raw.get("total_tokens") is None:
        raise _NotACount
    if cached + cache_write > prompt:
        prompt += cached + cache_write
    return Usage(prompt, max(completion, total - prompt), cached, cache_write)


def _read_native(raw: Mapping[str, Any]) -> Usage:
    if raw.get("input_tokens") is None or raw.get("output_tokens") is None:
        raise _NotACount
    fresh, completion = _count(raw, "input_tokens"), _count(raw, "output_tokens")
    if details := _section(raw, "input_tokens_details"):
        cached = _detail(details, "cached_tokens")
        return Usage(max(fresh, cached), completion, cached)
    cached, cache_write = _detail(raw, "cache_read_input_tokens"), _detail(raw, "cache_creation_input_tokens")
    return Usage(fresh + cached + cache_write, completion, cached, cache_write)


def _section(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def _detail(fields: Mapping[str, Any], name: str) -> int:
    try:
        return _count(fields, name)
    except _NotACount:
        return 0


def _count(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if value is None:
        return 0
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= MAX_TOKENS:
        raise _NotACount
    return value
