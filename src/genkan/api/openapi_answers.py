"""What clients get, as JSON schemas for `openapi.py`: what is always there. Upstreams' own fields come with it."""

from typing import Final

from genkan.api.openapi_shapes import (
    ANY_OBJECT,
    COUNT,
    FLAG,
    NUMBER,
    TEXT,
    Schema,
    answer,
    described,
    list_of,
    optional,
    or_null,
    ref,
    whole,
)

_USAGE: Final = answer(
    ("prompt_tokens",),
    {
        "prompt_tokens": COUNT,
        "completion_tokens": COUNT,
        "total_tokens": COUNT,
        "cached_tokens": COUNT,
        "prompt_tokens_details": or_null(ANY_OBJECT),
    },
)


def _completion(of: dict[str, Schema]) -> Schema:
    choice = answer((), {"index": COUNT, "finish_reason": or_null(TEXT), **of})
    identity = {"id": TEXT, "object": TEXT, "created": {"type": "integer"}, "model": TEXT}
    return answer(("choices",), {**identity, "choices": list_of(choice), "usage": or_null(ref("Usage"))})


_COST: Final = or_null(NUMBER)
ANSWERS: Final[dict[str, Schema]] = {
    "Error": answer(
        ("error",),
        {
            "error": answer(
                ("message", "type", "param", "code"),
                {"message": TEXT, "type": TEXT, "param": or_null(TEXT), "code": or_null(TEXT)},
            )
        },
    ),
    "Usage": _USAGE,
    "ChatCompletion": _completion({"message": ANY_OBJECT, "logprobs": or_null(ANY_OBJECT)}),
    "Completion": _completion({"text": TEXT, "logprobs": or_null(ANY_OBJECT)}),
    "NativeAnswer": answer(
        ("id", "model", "content", "finish_reason", "usage", "latency_ms", "cost_usd"),
        {
            **optional({"id": TEXT, "model": TEXT, "content": TEXT, "finish_reason": TEXT}),
            "usage": or_null(ref("Usage")),
            "latency_ms": NUMBER,
            "cost_usd": _COST,
            "streamed": FLAG,
        },
    ),
    "BatchAnswer": answer(
        ("results",),
        {
            "results": list_of(
                answer(
                    ("index", "id", "status", "body"),
                    {
                        "index": COUNT,
                        "id": TEXT,
                        "status": whole(200, 599),
                        "body": {"anyOf": [ref("ChatCompletion"), ref("Error")]},
                        "cost_usd": _COST,
                        "retry_after_s": NUMBER,
                    },
                )
            )
        },
    ),
    "Embeddings": answer(
        ("object", "data", "model", "usage"),
        {
            "object": {"const": "list"},
            "data": list_of(
                answer(
                    ("object", "index", "embedding"),
                    {
                        "object": {"const": "embedding"},
                        "index": COUNT,
                        "embedding": {"anyOf": [list_of(NUMBER), described(TEXT, "Base64 of little-endian float32.")]},
                    },
                )
            ),
            "model": TEXT,
            "usage": ref("Usage"),
        },
    ),
    "Model": answer(
        ("id", "object", "created", "owned_by"),
        {"id": TEXT, "object": {"const": "model"}, "created": {"type": "integer"}, "owned_by": TEXT},
    ),
    "Models": answer(("object", "data"), {"object": {"const": "list"}, "data": list_of(ref("Model"))}),
    "PricedModels": answer(
        ("models", "currency"),
        {
            "models": list_of(
                answer(
                    ("id", "provider", "price_per_mtok", "prices_per_mtok"),
                    {
                        "id": TEXT,
                        "provider": TEXT,
                        "price_per_mtok": _COST,
                        "prices_per_mtok": or_null({"type": "object", "additionalProperties": _COST}),
                    },
                )
            ),
            "currency": {"const": "USD"},
            "exchange_rate_note": TEXT,
        },
    ),
    "Health": answer(
        ("status", "requests_served", "avg_latency_ms"),
        {"status": {"const": "ok"}, "requests_served": COUNT, "avg_latency_ms": NUMBER},
    ),
    "Index": answer(
        ("name", "version", "endpoints", "probes"),
        {"name": TEXT, "version": TEXT, "endpoints": list_of(TEXT), "probes": list_of(TEXT)},
    ),
}
