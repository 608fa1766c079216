"""What clients may send, as JSON schemas for `openapi.py`. Bounds are the code's own.

A request is described as far as every upstream is spoken to alike; more is passed on, so further fields are allowed.
"""

from typing import Final, get_args

from genkan.api.batch_predict import MAX_REQUESTS
from genkan.api.native import DEFAULT_MODEL
from genkan.api.openapi_shapes import (
    ANY_OBJECT,
    COUNT,
    FLAG,
    TEXT,
    Schema,
    answer,
    described,
    list_of,
    number,
    optional,
    or_null,
    ref,
    whole,
)
from genkan.wire.chat import MAX_MODEL_CHARS, MAX_SALT_CHARS
from genkan.wire.extras import MAX_CACHE_TTL_S, MAX_PREFIX_TTL_S, MAX_PRIORITY, MAX_TAG_CHARS, MAX_TAGS, CacheMode
from genkan.wire.messages import MAX_CALL_ID_CHARS, MAX_CALLS, MAX_NAME_CHARS, ROLES
from genkan.wire.sampling import (
    LEAST_REPETITION_PENALTY,
    MAX_ANSWERS,
    MAX_BIASES,
    MAX_REPETITION_PENALTY,
    MAX_STOP_CHARS,
    MAX_STOP_IDS,
    MAX_STOPS,
    MAX_TOKENS,
    MAX_TOP_K,
    MAX_TOP_LOGPROBS,
)

_MODEL: Final = described({**TEXT, "maxLength": MAX_MODEL_CHARS}, "A model or a route, as `GET /v1/models` lists them.")
_STOP: Final = {**TEXT, "minLength": 1, "maxLength": MAX_STOP_CHARS}
_MAX_TOKENS: Final = whole(1, MAX_TOKENS)
#: Options that steer genkan itself and reach no upstream; see docs/api.md.
_EXTRAS: Final = {
    "cache": {"enum": [*get_args(CacheMode), None]},
    **optional(
        {
            "cache_ttl_s": whole(1, MAX_CACHE_TTL_S),
            "prefix_cache": FLAG,
            "prefix_ttl_s": whole(1, MAX_PREFIX_TTL_S),
            "prefix_pin": FLAG,
            "priority": described(whole(-MAX_PRIORITY, MAX_PRIORITY), "A higher one goes first."),
            "tags": list_of({**TEXT, "minLength": 1, "maxLength": MAX_TAG_CHARS}, maxItems=MAX_TAGS),
        }
    ),
}
_SHORT_FORMS: Final = {
    "prompt_cache": FLAG,
    "prefix_caching": FLAG,
    "cache_ttl_seconds": whole(1, MAX_PREFIX_TTL_S),
    "high_priority": FLAG,
}
_PENALTY: Final = number(-2, 2)
#: Of every request for text.
_GENERATION: Final = {
    **optional(
        {
            "stream": described(FLAG, "Answer with server-sent events that end with `[DONE]`."),
            "stream_options": answer((), optional({"include_usage": FLAG, "include_obfuscation": FLAG})),
            "temperature": number(0, 2),
            "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            "top_k": described(whole(-1, MAX_TOP_K), "-1 and 0: all."),
            "min_p": number(0, 1),
            "seed": whole(-(2**63), 2**63 - 1),
            "n": whole(1, MAX_ANSWERS),
            "stop": {"anyOf": [_STOP, list_of(_STOP, maxItems=MAX_STOPS)]},
            "stop_token_ids": list_of(whole(0, 2**31 - 1), maxItems=MAX_STOP_IDS),
            "include_stop_str_in_output": FLAG,
            "ignore_eos": FLAG,
            "min_tokens": whole(0, MAX_TOKENS),
            "presence_penalty": _PENALTY,
            "frequency_penalty": _PENALTY,
            "repetition_penalty": number(LEAST_REPETITION_PENALTY, MAX_REPETITION_PENALTY),
            "logit_bias": {"type": "object", "additionalProperties": number(-100, 100), "maxProperties": MAX_BIASES},
            "user": TEXT,
            "cache_salt": {**TEXT, "minLength": 1, "maxLength": MAX_SALT_CHARS},
            **_SHORT_FORMS,
        }
    ),
    "genkan": or_null(ref("RequestOptions")),
}
_CHAT_OPTIONS: Final = {
    **_GENERATION,
    **optional(
        {
            "max_tokens": _MAX_TOKENS,
            "max_completion_tokens": _MAX_TOKENS,
            "logprobs": FLAG,
            "top_logprobs": whole(0, MAX_TOP_LOGPROBS),
            "response_format": answer(("type",), {"type": TEXT, "json_schema": ANY_OBJECT}),
            "tools": list_of(answer(("type",), {"type": TEXT, "function": ANY_OBJECT})),
            "parallel_tool_calls": FLAG,
            "continue_text": described(TEXT, "What the answer begins with."),
        }
    ),
    "tool_choice": {"anyOf": [TEXT, ANY_OBJECT, {"type": "null"}]},
}
_MESSAGES: Final = list_of(ref("Message"), minItems=1)
_FUNCTION_CALL: Final = answer((), {"name": TEXT, "arguments": TEXT})

REQUESTS: Final[dict[str, Schema]] = {
    "RequestOptions": {"type": "object", "properties": _EXTRAS, "additionalProperties": False},
    "Message": answer(
        ("role",),
        {
            "role": {"enum": [*ROLES]},
            "content": {"anyOf": [TEXT, list_of(ref("Part"), minItems=1), {"type": "null"}]},
            "name": or_null({**TEXT, "maxLength": MAX_NAME_CHARS}),
            "tool_call_id": or_null({**TEXT, "maxLength": MAX_CALL_ID_CHARS}),
            "tool_calls": or_null(list_of(ref("ToolCall"), maxItems=MAX_CALLS)),
        },
    ),
    "Part": answer(("type",), {"type": TEXT, "text": TEXT}),
    "ToolCall": answer((), {"id": TEXT, "type": TEXT, "function": _FUNCTION_CALL}),
    "ChatRequest": answer(("model", "messages"), {"model": _MODEL, "messages": _MESSAGES, **_CHAT_OPTIONS}),
    "NativeRequest": answer(
        ("messages",), {"model": {**or_null(_MODEL), "default": DEFAULT_MODEL}, "messages": _MESSAGES, **_CHAT_OPTIONS}
    ),
    "CompletionRequest": answer(
        ("model", "prompt"),
        {
            "model": _MODEL,
            "prompt": described(
                {"anyOf": [TEXT, list_of(TEXT), list_of(COUNT), list_of(list_of(COUNT))]}, "Texts, or token ids."
            ),
            **_GENERATION,
            **optional(
                {
                    "max_tokens": described(whole(0, MAX_TOKENS), "0 only with `echo`."),
                    "logprobs": whole(0, MAX_TOP_LOGPROBS),
                    "echo": FLAG,
                    "best_of": whole(1, 20),
                    "suffix": TEXT,
                }
            ),
        },
    ),
    "EmbeddingRequest": {
        **answer(
            ("model", "input"),
            {
                "model": _MODEL,
                "input": {"anyOf": [{**TEXT, "minLength": 1}, list_of({**TEXT, "minLength": 1}, minItems=1)]},
                "encoding_format": {"enum": ["float", "base64", None]},
                "dimensions": or_null(whole(1, 1 << 20)),
                "user": or_null(TEXT),
                "genkan": or_null(ref("RequestOptions")),
            },
        )
    },
    "BatchRequest": {
        "anyOf": [
            answer(("requests",), {"requests": list_of(ANY_OBJECT, minItems=1, maxItems=MAX_REQUESTS)}),
            list_of(ANY_OBJECT, minItems=1, maxItems=MAX_REQUESTS),
        ],
        "description": "Objects like a `NativeRequest`; what is wrong with one is told in its own result.",
    },
}
