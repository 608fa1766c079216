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
from typing import Any, Final

#: Where some providers say what came from a cache, or went to one, besides ``cached_tokens`` of the prompt's details.
_OTHER_CACHES = frozenset({"cache_read_input_tokens", "cached_tokens", "cache_creation_input_tokens"})
_WRITTEN = frozenset({"cache_write_tokens", "cache_creation_tokens"})  # in the prompt's details
MAX_TOKENS = 10**9  # of one count; what says more counts something else


@dataclass(slots=True)
class Usage:
    """The tokens of one request."""

    # Final, and not a frozen dataclass: mypy keeps it from being changed, where a frozen one costs 100 ns a field.

    prompt: Final[int]  # all of it, whatever came from a cache
    completion: Final[int]  # with reasoning, shown or not
    cached: Final[int] = 0  # of the prompt, read from a cache
    cache_write: Final[int] = 0  # of the prompt, written to a cache

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    @classmethod
    def read(cls, raw: object) -> "Usage | None":
        """What an upstream's ``usage`` says. None if it says nothing, not enough, or something that is no count.

        A count is a whole number from 0 to 10^9, as ``5`` or ``5.0``: no text, no fraction, no truth value. About
        0.5 µs for what OpenAI, vLLM, SGLang and DeepSeek send, and 1 to 2 µs for the rest.
        """
        if not isinstance(raw, dict):
            return None
        try:
            return _read_usual(raw) or _read(raw)
        except _NotACount:
            return None


class _NotACount(Exception):
    """Where a number of tokens belongs is something else, or nothing."""


def _read_usual(raw: Mapping[str, Any]) -> Usage | None:
    """What most upstreams say, at once; None where there is more to it, and `_read` must look for it."""
    try:
        prompt, completion, total = raw["prompt_tokens"], raw["completion_tokens"], raw["total_tokens"]
    except KeyError:
        return None
    if type(prompt) is not int or type(completion) is not int or type(total) is not int:
        return None
    if not 0 <= prompt <= total <= MAX_TOKENS or prompt + completion != total or not _OTHER_CACHES.isdisjoint(raw):
        return None
    cached = 0
    if details := raw.get("prompt_tokens_details"):
        if type(details) is not dict or not _WRITTEN.isdisjoint(details):
            return None
        cached = details.get("cached_tokens") or 0
        if type(cached) is not int or not 0 <= cached <= prompt:
            return None
    if raw.get("prompt_cache_hit_tokens", cached) != cached:
        return None
    return Usage(prompt, completion, cached)


def _read(raw: Mapping[str, Any]) -> Usage:
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
