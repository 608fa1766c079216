"""Log probabilities in OpenAI's two shapes.

They are of the model's own logits, before penalties, biases, a grammar or a temperature. What JSON has no number for,
a token that cannot be, is -9999.0, as at OpenAI. So is a token's name where its bytes are only a part of a character:
those bytes, written out.
"""

from collections.abc import Sequence
from typing import Any

from genkan.engine.logprobs import TokenLogprobs
from genkan.serving.pieces import Scored
from genkan.upstream.tokenizer import TextTokenizer

_IMPOSSIBLE = -9999.0


class TokenWords:
    """Names tokens of one model."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer

    def chat(self, scored: Sequence[Scored]) -> dict[str, Any]:
        """``choices[].logprobs`` of a chat. Cost: about 1 µs for each name."""
        content = []
        for token, logprobs, _ in scored:
            assert logprobs is not None, "a token without the log probabilities that were asked for"
            top = [self._entry(other, logprob) for other, logprob in logprobs.top]
            content.append({**self._entry(token, logprobs.logprob), "top_logprobs": top})
        return {"content": content, "refusal": None}

    def completion(self, scored: Sequence[Scored]) -> dict[str, Any]:
        """``choices[].logprobs`` of a completion. The first token of a prompt has none."""
        return {
            "tokens": [self._name(each.id, "bytes:") for each in scored],
            "token_logprobs": [each.logprobs and _number(each.logprobs.logprob) for each in scored],
            "top_logprobs": [each.logprobs and self._by_name(each.id, each.logprobs) for each in scored],
            "text_offset": [each.offset for each in scored],
        }

    def _by_name(self, token: int, logprobs: TokenLogprobs) -> dict[str, float]:
        """The likeliest tokens and the one that was taken; of two with the same name the likelier one."""
        names: dict[str, float] = {}
        for other, logprob in (*logprobs.top, (token, logprobs.logprob)):
            names.setdefault(self._name(other, "bytes:"), _number(logprob))
        return names

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        raw = self._tokenizer.token_bytes_of(token)
        return {"token": self._name(token), "logprob": _number(logprob), "bytes": list(raw) if raw else None}

    def _name(self, token: int, mark: str = "") -> str:
        raw = self._tokenizer.token_bytes_of(token)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return mark + "".join(f"\\x{byte:02x}" for byte in raw)


def _number(logprob: float) -> float:
    return max(logprob, _IMPOSSIBLE)
