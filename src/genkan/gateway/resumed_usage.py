"""The usage of one answer that was made in parts: what its client has taken, whoever counted it. Pure.

Theory. Who went on from a text read it as a part of the prompt, so of its count so many tokens are the answer's, said
by another: they are moved from the one to the other, and the sum stays the same. Our engine says how many they are;
others do not, and what was delivered is estimated. Who was asked anew has said all of the answer, and counts it right.
"""

from collections.abc import Sequence
from typing import Any, Literal

from genkan.wire.usage import Usage

Part = dict[str, str]  # the "model" and the "way" of one that went on


def resumed_usage(
    raw: dict[str, Any], way: Literal["prompt", "prefill", "replay"], said_tokens: int, parts: Sequence[Part]
) -> dict[str, Any] | None:
    """The whole answer's, after the last of ``parts`` went on in that ``way`` and counted ``raw``.

    ``said_tokens`` is about how many its client had until then. None if ``raw`` cannot be read.
    """
    usage = Usage.read(raw)
    if usage is None:
        return None
    if way == "replay":
        return {**raw, "resumed": [*parts]}
    said = min(_continued(raw) or said_tokens, usage.prompt)
    prompt = usage.prompt - said
    # What a cache had of the prompt may have been of the text.
    details = {"cached_tokens": min(usage.cached, prompt)}
    if usage.cache_write:
        details["cache_write_tokens"] = min(usage.cache_write, prompt - details["cached_tokens"])
    whole: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": usage.completion + said,
        "total_tokens": usage.total,
        "prompt_tokens_details": details,
    }
    if type(of_completion := raw.get("completion_tokens_details")) is dict:
        whole["completion_tokens_details"] = of_completion
    return {**whole, "resumed": [*parts]}


def _continued(raw: dict[str, Any]) -> int:
    """How many tokens of the prompt were the text's, as our engine says it; 0 where nobody does."""
    details = raw.get("prompt_tokens_details")
    said = details.get("continued_tokens") if type(details) is dict else None
    return said if type(said) is int and said > 0 else 0
