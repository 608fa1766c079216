"""An answer as it is kept: one plain text, and all that is needed to give it to another request."""

from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from genkan.cache.collector import Collected
from genkan.wire.usage import MAX_TOKENS, Usage

_VERSION = 1
_DIGEST_BYTES = 16


@dataclass(slots=True, kw_only=True)
class StoredAnswer:
    """Times are Unix times. ``partition``, ``exact`` and ``key`` are those of the Scope it was generated for."""

    # Final, and not a frozen dataclass: mypy keeps it from being changed, where a frozen one costs 100 ns a field.

    is_chat: Final[bool]
    text: Final[str]
    reasoning: Final[str] = ""
    reasoning_name: Final[str] = ""  # what its upstream calls it: reasoning_content, reasoning, or both with + between
    finish_reason: Final[str] = "stop"  # or length
    model: Final[str]  # as the answer named it
    fingerprint: Final[str | None] = None
    usage: Final[Usage | None]  # None: nobody counted
    created_s: Final[int]
    deployment: Final[str]  # model@upstream
    cost_nano_usd: Final[int | None] = None  # None: not known
    question: Final[str] = ""  # the Scope's text
    partition: Final[bytes]
    exact: Final[bytes]
    key: Final[bytes]
    stored_s: Final[float]
    expires_s: Final[float]
    is_alias: Final[bool] = False  # another question's answer, that a judge found right for this one
    besides: Final[dict[str, Any]] = field(default_factory=dict)  # its upstream's own fields, beside the choices

    @classmethod
    def of(
        cls,
        collected: Collected,
        *,
        is_chat: bool,
        deployment: str,
        cost_nano_usd: int | None = None,
        question: str = "",
        partition: bytes = b"",
        exact: bytes = b"",
        key: bytes = b"",
        stored_s: float = 0.0,
        expires_s: float = 0.0,
    ) -> "StoredAnswer":
        """What was collected, with what storing it needs; without that, it can only be given again now."""
        return cls(
            is_chat=is_chat,
            text=collected.text,
            reasoning=collected.reasoning,
            reasoning_name=collected.reasoning_name,
            finish_reason=collected.finish_reason,
            model=collected.model,
            fingerprint=collected.fingerprint,
            usage=collected.usage,
            created_s=collected.created_s,
            besides=collected.besides,
            deployment=deployment,
            cost_nano_usd=cost_nano_usd,
            question=question,
            partition=partition,
            exact=exact,
            key=key,
            stored_s=stored_s,
            expires_s=expires_s,
        )

    @property
    def may_be_stored(self) -> bool:
        """Whether it came to its end by itself, says something, and was counted."""
        return self.finish_reason == "stop" and self.text != "" and self.usage is not None

    def as_bytes(self) -> bytes:
        """JSON that `read` takes. Cost: about 1 µs."""
        usage = self.usage
        return orjson.dumps(
            (
                _VERSION,
                self.is_chat,
                self.text,
                self.reasoning,
                self.reasoning_name,
                self.finish_reason,
                self.model,
                self.fingerprint,
                None if usage is None else (usage.prompt, usage.completion, usage.cached, usage.cache_write),
                self.created_s,
                self.deployment,
                self.cost_nano_usd,
                self.question,
                self.partition.hex(),
                self.exact.hex(),
                self.key.hex(),
                self.stored_s,
                self.expires_s,
                self.is_alias,
                self.besides,
            )
        )

    @classmethod
    def read(cls, data: bytes) -> "StoredAnswer | None":
        """What `as_bytes` wrote; None for anything else. Cost: about 5 µs."""
        try:
            version, *values = orjson.loads(data)
            return cls._of(*values) if version == _VERSION else None
        except (TypeError, ValueError):
            return None

    @classmethod
    def _of(
        cls,
        is_chat: object,
        text: object,
        reasoning: object,
        reasoning_name: object,
        finish_reason: object,
        model: object,
        fingerprint: object,
        usage: object,
        created_s: object,
        deployment: object,
        cost_nano_usd: object,
        question: object,
        partition: object,
        exact: object,
        key: object,
        stored_s: object,
        expires_s: object,
        is_alias: object,
        besides: object,
        /,
    ) -> "StoredAnswer":
        return cls(
            is_chat=_boolean(is_chat),
            text=_string(text),
            reasoning=_string(reasoning),
            reasoning_name=_string(reasoning_name),
            finish_reason=_string(finish_reason),
            model=_string(model),
            fingerprint=_string_or_none(fingerprint),
            usage=_usage(usage),
            created_s=_count(created_s),
            deployment=_string(deployment),
            cost_nano_usd=_count_or_none(cost_nano_usd),
            question=_string(question),
            partition=_digest(partition),
            exact=_digest(exact),
            key=_digest(key),
            stored_s=_seconds(stored_s),
            expires_s=_seconds(expires_s),
            is_alias=_boolean(is_alias),
            besides=_object(besides),
        )


def _boolean(value: object) -> bool:
    if type(value) is not bool:
        raise TypeError
    return value


def _string(value: object) -> str:
    if type(value) is not str:
        raise TypeError
    return value


def _string_or_none(value: object) -> str | None:
    return None if value is None else _string(value)


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def _count_or_none(value: object) -> int | None:
    return None if value is None else _count(value)


def _seconds(value: object) -> float:
    if not (type(value) is float or type(value) is int) or value < 0:
        raise TypeError
    return float(value)


def _object(value: object) -> dict[str, Any]:
    if type(value) is not dict:
        raise TypeError
    return value


def _digest(value: object) -> bytes:
    digest = bytes.fromhex(_string(value))
    if len(digest) != _DIGEST_BYTES:
        raise ValueError
    return digest


def _usage(value: object) -> Usage | None:
    if value is None:
        return None
    if type(value) is not list:
        raise TypeError
    prompt, completion, cached, cache_write = (_count(count) for count in value)
    if cached + cache_write > prompt or prompt + completion > 2 * MAX_TOKENS:
        raise ValueError
    return Usage(prompt, completion, cached, cache_write)
