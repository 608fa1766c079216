"""Requests that are wrong, each in one way, and what exactly must be said about them."""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

CHAT: Final = "/v1/chat/completions"
TEXT: Final = "/v1/completions"
CALL: Final = "/call"
JSON: Final = {"content-type": "application/json"}
WINDOW: Final = 8192  # tokens of the default model
BODY_LIMIT: Final = 4 << 20
GOOD: Final[dict[str, Any]] = {
    "model": "default",
    "messages": [{"role": "user", "content": "Say hi."}],
    "max_tokens": 1,
    "temperature": 0,
}
GOOD_TEXT: Final[dict[str, Any]] = {"model": "default", "prompt": "Say hi.", "max_tokens": 1, "temperature": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """One wrong request, and the error that it must get."""

    name: str
    status: int = 400
    code: str = "invalid_value"
    param: str | None = None
    mentions: tuple[str, ...] = ()  # parts of the message
    method: str = "POST"
    path: str = CHAT
    headers: dict[str, str]
    body: bytes = b""
    chunk_bytes: int = 0  # send the body in chunks of this size, its length undeclared

    def pieces(self) -> Iterator[bytes]:
        for start in range(0, len(self.body), self.chunk_bytes):
            yield self.body[start : start + self.chunk_bytes]


def corpus() -> list[Malformed]:
    """All of them; names are unique."""
    found = [
        *_paths_and_methods(),
        *_media_types(),
        *_bodies_over_the_limit(),
        *_not_json(),
        *_duplicate_keys(),
        *_deep_nesting(),
        *_bad_encodings(),
        *_unknown_models(),
        *_wrong_types(),
        *_numbers_out_of_range(),
        *_wrong_messages(),
        *_wrong_prompts(),
        *_wrong_options(),
        *_unsupported_options(),
        *_wrong_extras(),
        *_too_long(),
        *_wrong_calls(),
    ]
    names = [request.name for request in found]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    return found


def _request(name: str, body: Any = None, **expected: Any) -> Malformed:
    """``body`` as bytes, or as an object that becomes JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Malformed(name=name, body=data, **{"headers": JSON, **expected})


def _chat(name: str, *, param: str | None = None, **changed: Any) -> Malformed:
    """The good chat request with fields changed; the first of them is the wrong one unless ``param`` says other."""
    expected = {key[1:]: changed.pop(key) for key in list(changed) if key in ("_code", "_mentions", "_status")}
    return _request(name, {**GOOD, **changed}, param=next(iter(changed)) if param is None else param, **expected)


def _with(field: str, value: Any, **expected: Any) -> Malformed:
    shown = json.dumps(value)
    name = f"{field[:40]} {shown if len(shown) < 40 else f'{shown[:30]}... ({len(shown)})'}"
    return _request(name, {**GOOD, field: value}, **{"param": field, **expected})


def _literal(field: str, literal: str) -> bytes:
    """The good chat request with a field that no JSON library would write."""
    return json.dumps({**GOOD, field: "@"}).replace('"@"', literal).encode()


def _paths_and_methods() -> Iterator[Malformed]:
    unknown = [
        "/v1", "/v1/", "/v1/chat", "/v1/chat/completions/", "/V1/chat/completions", "//v1/chat/completions",
        "/v1/chat/completions/x", "/v1/chat/completions;x", "/chat/completions", "/v1/embeddings", "/v1/responses",
        "/v1/audio/speech", "/v1/files", "/v2/chat/completions", "/admin", "/admin/keys", "/dashboard", "/docs",
        "/docs.json", "/openapi.json", "/assets/x.js", "/favicon.ico", "/call/", "/health/", "/readyz/", "/metrics/",
        "/v1/models/", "/../etc/passwd", "/%2e%2e/etc/passwd", "/.env", "/v1/%63hat", "/%00", "/complete", "/predict",
    ]  # fmt: skip
    for path in unknown:
        for method in ("GET", "POST"):
            yield _request(f"{method} {path}", GOOD, status=404, code="unknown_url", method=method, path=path)
    allowed = {
        CHAT: "POST", TEXT: "POST", CALL: "POST", "/v1/models": "GET, HEAD", "/v1/models/default": "GET, HEAD",
        "/models": "GET, HEAD", "/health": "GET, HEAD", "/": "GET, HEAD", "/livez": "GET, HEAD",
        "/readyz": "GET, HEAD", "/metrics": "GET, HEAD", "/schema.json": "GET, HEAD",
    }  # fmt: skip
    for path, right in allowed.items():
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            if method not in right:
                yield _request(
                    f"{method} {path}",
                    GOOD,
                    status=405,
                    code="method_not_allowed",
                    mentions=(method, path, right),
                    method=method,
                    path=path,
                )
    for model in ("no-such-model", "default/x", "DEFAULT", "%F0%9F%A6%8A", "..%2F..%2Fetc", "x" * 3000):
        yield _request(
            f"GET model {model[:40]}",
            b"",
            status=404,
            code="model_not_found",
            param="model",
            method="GET",
            path=f"/v1/models/{model}",
        )


def _media_types() -> Iterator[Malformed]:
    good = json.dumps(GOOD).encode()
    kinds = [
        "", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
        "application/octet-stream", "application/vnd.bentoml+pickle", "application/xml", "application/jsonp",
        "application/json-patch+json", "application/jsonl", "json", "application/json, text/plain", "*/*",
        "application/json; charset=utf-16", "application/json; charset=latin-1", 'application/json; charset="ascii"',
    ]  # fmt: skip
    for path in (CHAT, CALL):
        for kind in kinds:
            yield _request(
                f"{path} as {kind or 'an empty type'}",
                good,
                status=415,
                code="unsupported_media_type",
                path=path,
                headers={"content-type": kind},
            )
        yield _request(f"{path} without a type", good, status=415, code="unsupported_media_type", path=path, headers={})
    packed = {"gzip": gzip.compress(good), "deflate": zlib.compress(good), "br": good, "gzip, gzip": good, "x": good}
    for coding, body in packed.items():
        yield _request(
            f"body in {coding}",
            body,
            status=415,
            code="unsupported_media_type",
            mentions=("compressed", coding),
            headers={**JSON, "content-encoding": coding},
        )
    yield _request(
        "multipart garbage",
        b"--x\r\nnot a part",
        status=415,
        code="unsupported_media_type",
        path=CALL,
        headers={"content-type": "multipart/form-data; boundary=x"},
    )


def _bodies_over_the_limit() -> Iterator[Malformed]:
    def over(name: str, size: int, **more: Any) -> Malformed:
        return _request(name, b" " * size, status=413, code="request_too_large", mentions=(str(BODY_LIMIT),), **more)

    for path in (CHAT, TEXT, CALL):
        yield over(f"{path} one byte over", BODY_LIMIT + 1, path=path)
    yield over("twice the limit", 2 * BODY_LIMIT)
    yield over("ten times the limit", 10 * BODY_LIMIT)
    yield over("chunks over the limit", BODY_LIMIT + (1 << 20), chunk_bytes=1 << 16)
    yield over("chunks one byte over", BODY_LIMIT + 1, chunk_bytes=1 << 20)
    yield over("one chunk over the limit", BODY_LIMIT + 1, chunk_bytes=2 * BODY_LIMIT)
    yield over("chunks of twice the limit", 2 * BODY_LIMIT, chunk_bytes=1 << 18)
    yield _request("exactly at the limit", b" " * BODY_LIMIT)
    yield _request("chunks exactly at the limit", b" " * BODY_LIMIT, chunk_bytes=1 << 20)
    # The client waits for what the server says to its length, and never sends a byte.
    huge = {**JSON, "content-length": str(100 << 30)}
    yield _request("declared 100 GiB", b"", status=413, code="request_too_large", headers=huge)


def _not_json() -> Iterator[Malformed]:
    good = json.dumps(GOOD)
    texts = {
        "empty body": "",
        "blank body": " \n\t",
        "only an opening": "{",
        "cut off": good[:-1],
        "cut off in a string": good[:40],
        "one closing too many": good + "}",
        "two objects": good + good,
        "two lines": good + "\n" + good,
        "trailing comma": good[:-1] + ",}",
        "comment": "/* hi */" + good,
        "single quotes": good.replace('"', "'"),
        "key without quotes": "{model: 1}",
        "missing colon": '{"model" "default"}',
        "missing comma": '{"model": "default" "stream": true}',
        "Python's True": _literal("stream", "True").decode(),
        "Python's None": _literal("stop", "None").decode(),
        "undefined": _literal("stop", "undefined").decode(),
        "form": "model=default&stream=true",
        "words": "hello",
        "XML": "<model>default</model>",
        "SSE": "data: {}\n\n",
        "line break in a string": '{"model": "de\nfault"}',
        "tab in a string": '{"model": "de\tfault"}',
        "zero byte in a string": '{"model": "de\0fault"}',
        "zero byte after the end": good + "\0",
        "unknown escape": '{"model": "\\x41"}',
        "half an escape": '{"model": "\\u12"}',
        "leading zero": _literal("max_tokens", "01").decode(),
        "plus sign": _literal("max_tokens", "+1").decode(),
        "leading dot": _literal("temperature", ".5").decode(),
        "trailing dot": _literal("temperature", "1.").decode(),
        "hexadecimal": _literal("max_tokens", "0x10").decode(),
        "underscore": _literal("max_tokens", "1_0").decode(),
    }
    for name, text in texts.items():
        yield _request(name, text.encode(), mentions=("not valid JSON",))
    for value in (None, True, 5, 1.5, "model", [], [GOOD]):
        yield _request(f"top level {json.dumps(value)[:20]}", value, mentions=("must be a JSON object",))
    for literal in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e99999999", "0.1e400"):
        for field in ("temperature", "max_tokens", "unknown"):
            yield _request(f"{field} {literal}", _literal(field, literal), mentions=("not valid JSON",))
    for digits in (str(2**64), str(-(2**63) - 1), "9" * 400, "-" + "9" * 5000, "9" * 1_000_000):
        yield _request(
            f"integer {digits[:24]} of {len(digits)} digits",
            _literal("seed", digits),
            mentions=("does not fit in 64 bits",),
        )


def _duplicate_keys() -> Iterator[Malformed]:
    tail = '"messages":[{"role":"user","content":"hi"}]'
    texts = {
        "model twice": '{"model":"default","model":"default",' + tail + "}",
        "model twice, once escaped": '{"model":"default","mod\\u0065l":"gpt-4",' + tail + "}",
        "messages twice": '{"model":"default",' + tail + "," + tail + "}",
        "role twice": '{"model":"default","messages":[{"role":"user","role":"system","content":"hi"}]}',
        "content twice": '{"model":"default","messages":[{"role":"user","content":"a","content":"b"}]}',
        "text twice in a part": '{"model":"default","messages":[{"role":"user","content":[{"type":"text","text":"a",'
        '"text":"b"}]}]}',
        "option twice": '{"model":"default","max_tokens":1,"max_tokens":2,' + tail + "}",
        "stream option twice": '{"model":"default","stream":true,"stream_options":{"include_usage":true,'
        '"include_usage":false},' + tail + "}",
        "extra twice": '{"model":"default","genkan":{"cache":"only","cache":"default"},' + tail + "}",
        "unknown key twice, deep": '{"model":"default","metadata":{"a":{"b":1,"b":2}},' + tail + "}",
        "empty key twice": '{"model":"default","":1,"":2,' + tail + "}",
    }
    for name, text in texts.items():
        yield _request(f"duplicate key: {name}", text.encode(), mentions=("duplicate key",))


def _deep_nesting() -> Iterator[Malformed]:
    def nested(opening: str, closing: str, depth: int) -> bytes:
        return _literal("metadata", opening * depth + "1" + closing * depth)

    too_deep = ("nested deeper than 100 levels",)
    for depth in (100, 101, 1_000, 10_000, 1_000_000):  # and one level for the body
        yield _request(f"{depth} lists", nested("[", "]", depth), mentions=too_deep)
    for depth in (100, 10_000, 500_000):
        yield _request(f"{depth} objects", nested('{"a":', "}", depth), mentions=too_deep)
    yield _request("10000 lists and objects", nested('[{"a":', "}]", 10_000), mentions=too_deep)
    for depth in (10_000, 800_000):
        yield _request(f"{depth} lists never closed", b"[" * depth, mentions=too_deep)
        yield _request(f"{depth} objects never closed", b'{"a":' * depth, mentions=too_deep)
    yield _request("nested content", _literal("messages", "[" * 5_000 + "]" * 5_000), mentions=too_deep)


def _bad_encodings() -> Iterator[Malformed]:
    good = json.dumps(GOOD)
    not_utf8 = {
        "UTF-16": good.encode("utf-16"),
        "Latin-1": _literal("user", '"é"').decode().encode("latin-1"),
        "overlong slash": _literal("user", '"@"').replace(b"@", b"\xc0\xaf"),
        "overlong zero": _literal("user", '"@"').replace(b"@", b"\xc0\x80"),
        "half a character": _literal("user", '"@"').replace(b"@", b"\xf0\x9f\xa6"),
        "lone continuation": _literal("user", '"@"').replace(b"@", b"\x80"),
        "surrogate as bytes": _literal("user", '"@"').replace(b"@", b"\xed\xa0\x80"),
        "beyond Unicode": _literal("user", '"@"').replace(b"@", b"\xf4\x90\x80\x80"),
        "byte 255": b"\xff" + good.encode(),
        "cut in a character": good.encode() + b"\xe2\x82",
    }
    for name, body in not_utf8.items():
        yield _request(f"not UTF-8: {name}", body, mentions=("not valid UTF-8",))
    for name, body in {
        "byte order mark": b"\xef\xbb\xbf" + good.encode(),
        "UTF-16 without a mark": good.encode("utf-16-le"),
        "UTF-16 big-endian": good.encode("utf-16-be"),
        "UTF-32": good.encode("utf-32-le"),
        "two byte order marks": b"\xef\xbb\xbf" * 2 + good.encode(),
    }.items():
        yield _request(name, body, mentions=("not valid JSON",))
    for name, escape in {
        "high": "\\ud800",
        "low": "\\udc00",
        "reversed pair": "\\udc00\\ud800",
        "upper case": "\\uDBFF",
        "two high": "\\ud83d\\ud83d\\ude00",
    }.items():
        message = '[{"role":"user","content":"a@b"}]'.replace("@", escape)
        yield _request(f"lone surrogate: {name}", _literal("messages", message), mentions=("lone surrogate",))
    for field, literal in {
        "model": '"\\ud800"',
        "stop": '["\\ud800"]',
        "metadata": '{"\\ud800":1}',
        "user": '"\\udfff"',
    }.items():
        yield _request(f"lone surrogate in {field}", _literal(field, literal), mentions=("lone surrogate",))


def _unknown_models() -> Iterator[Malformed]:
    for model in (
        "gpt-4o", "", " ", "DEFAULT", "default ", "smollm2", "../default", "default\n", "default\u0000", "🦊",
        "{{model}}", "%s%n", "'; drop table models; --", "x" * 256,
    ):  # fmt: skip
        yield _with("model", model, status=404, code="model_not_found")
    yield _with("model", "x" * 257, mentions=("256",))
    yield _request(
        "text, unknown model",
        {**GOOD_TEXT, "model": "gpt-4o"},
        status=404,
        code="model_not_found",
        param="model",
        mentions=("gpt-4o",),
        path=TEXT,
    )


def _wrong_types() -> Iterator[Malformed]:
    samples: dict[str, Any] = {"string": "x", "integer": 1, "number": 1.5, "boolean": True, "object": {}, "list": []}
    right = {
        "model": ("string",),
        "messages": ("list",),
        "stream": ("boolean",),
        "max_tokens": ("integer",),
        "max_completion_tokens": ("integer",),
        "temperature": ("integer", "number"),
        "top_p": ("integer", "number"),
        "seed": ("integer",),
        "stop": ("string", "list"),
        "n": ("integer",),
        "stream_options": ("object",),
        "presence_penalty": ("integer", "number"),
        "frequency_penalty": ("integer", "number"),
        "logit_bias": ("object",),
        "logprobs": ("boolean",),
        "top_logprobs": ("integer",),
        "genkan": ("object",),
        "prompt_cache": ("boolean",),
        "prefix_caching": ("boolean",),
        "cache_ttl_seconds": ("integer",),
        "high_priority": ("boolean",),
    }
    for field, kinds in right.items():
        for kind, value in samples.items():
            if kind not in kinds:
                yield _with(field, value, code="invalid_type", mentions=(f"'{field}'", "expected"))
    text_right = {"echo": "boolean", "logprobs": "integer", "best_of": "integer", "suffix": "string"}
    for field, right_kind in text_right.items():
        wrong: Any = "1" if right_kind != "string" else 1
        yield _request(
            f"text, {field} {wrong!r}", {**GOOD_TEXT, field: wrong}, code="invalid_type", param=field, path=TEXT
        )
    for field in ("model", "messages"):
        without = {key: value for key, value in GOOD.items() if key != field}
        missing = {"code": "missing_required_parameter", "param": field, "mentions": (f"'{field}'",)}
        yield _request(f"no {field}", without, **missing)
        yield _request(f"{field} null", {**GOOD, field: None}, **missing)
    yield _request("empty object", {}, code="missing_required_parameter", param="model")


def _numbers_out_of_range() -> Iterator[Malformed]:
    ranges: dict[str, tuple[Any, ...]] = {
        "max_tokens": (0, -1, -(2**31), 2**31, 2**63 - 1),
        "max_completion_tokens": (0, -1, 2**31),
        "temperature": (-0.1, -1, 2.01, 1e10, 1e308),
        "top_p": (0, -0.5, 1.0001, 5, 1e308),
        "seed": (2**63, 2**64 - 1),
        "n": (0, -1, 129),
        "presence_penalty": (-2.1, 2.1, 1e308),
        "frequency_penalty": (-3, 3),
        "top_logprobs": (-1, 21),
        "cache_ttl_seconds": (0, -1, 86_401),
    }
    for field, values in ranges.items():
        for value in values:
            yield _with(field, value, mentions=(f"'{field}'", "given"))
    for value in (1.0, 1e3, -0.0):
        yield _with("max_tokens", value, code="invalid_type")
    for field in ("logprobs", "best_of"):
        yield _request(f"text, {field} 21", {**GOOD_TEXT, field: 21}, param=field, path=TEXT)


def _wrong_messages() -> Iterator[Malformed]:
    def messages(name: str, value: Any, path: str, code: str = "invalid_value") -> Malformed:
        return _chat(f"messages: {name}", messages=value, param=path, _code=code)

    def message(name: str, value: Any, path: str, code: str = "invalid_value") -> Malformed:
        return messages(name, [GOOD["messages"][0], value], f"messages[1]{path}", code)

    wrong_type, missing, unsupported = "invalid_type", "missing_required_parameter", "unsupported_parameter"
    yield messages("none", [], "messages")
    for value in (None, "hi", 5, ["user", "hi"], True):
        yield message(f"a message that is {json.dumps(value)}", value, "", wrong_type)
    yield message("empty object", {}, ".role", missing)
    yield message("no role", {"content": "hi"}, ".role", missing)
    yield message("role null", {"role": None, "content": "hi"}, ".role", missing)
    for role in ("", "User", "bot", "human", "critic", "user "):
        yield message(f"role '{role}'", {"role": role, "content": "hi"}, ".role")
    yield message("role 5", {"role": 5, "content": "hi"}, ".role", wrong_type)
    yield message("role list", {"role": ["user"], "content": "hi"}, ".role", wrong_type)
    for role in ("user", "system", "developer", "tool"):
        yield message(f"no content from {role}", {"role": role}, ".content", wrong_type)
    yield message("content null", {"role": "user", "content": None}, ".content", wrong_type)
    yield message("content 5", {"role": "user", "content": 5}, ".content", wrong_type)
    yield message("content true", {"role": "user", "content": True}, ".content", wrong_type)
    yield message("content object", {"role": "user", "content": {"text": "hi"}}, ".content", wrong_type)
    yield message("no parts", {"role": "user", "content": []}, ".content")
    yield message("part string", {"role": "user", "content": ["hi"]}, ".content[0]", wrong_type)
    yield message("part null", {"role": "user", "content": [None]}, ".content[0]", wrong_type)
    yield message("part without type", {"role": "user", "content": [{"text": "hi"}]}, ".content[0].type", missing)
    yield message("part type 5", {"role": "user", "content": [{"type": 5}]}, ".content[0].type", wrong_type)
    yield message("part without text", {"role": "user", "content": [{"type": "text"}]}, ".content[0].text", missing)
    yield message(
        "part text 5", {"role": "user", "content": [{"type": "text", "text": 5}]}, ".content[0].text", wrong_type
    )
    for kind in ("image_url", "input_audio", "file", "refusal", "video", ""):
        part = {"type": kind, kind: {"url": "http://127.0.0.1/x"}}
        yield message(f"part {kind!r}", {"role": "user", "content": [part]}, ".content[0].type", unsupported)
    yield message("name 5", {"role": "user", "content": "hi", "name": 5}, ".name", wrong_type)
    yield message("tool role", {"role": "tool", "content": "hi", "tool_call_id": "x"}, ".role", unsupported)
    yield message("function role", {"role": "function", "content": "hi", "name": "x"}, ".role", unsupported)
    yield message(
        "tool calls",
        {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "type": "function"}]},
        ".tool_calls",
        unsupported,
    )
    yield message("audio", {"role": "assistant", "content": "", "audio": {"id": "x"}}, ".audio", unsupported)
    yield message("unknown key", {"role": "user", "content": "hi", "cache_control": {}}, ".cache_control", unsupported)


def _wrong_prompts() -> Iterator[Malformed]:
    def prompt(value: Any, path: str = "prompt", code: str = "invalid_value") -> Malformed:
        body = {**GOOD_TEXT, "prompt": value}
        return _request(f"prompt {json.dumps(value)[:40]}", body, path=TEXT, param=path, code=code)

    wrong_type = "invalid_type"
    value: Any
    yield _request("no prompt", {"model": "default"}, path=TEXT, param="prompt", code="missing_required_parameter")
    yield prompt(None, code="missing_required_parameter")
    for value in (5, 1.5, True, {}, {"text": "hi"}):
        yield prompt(value, code=wrong_type)
    for value in ("", [], [""]):
        yield prompt(value)
    yield prompt([[]], "prompt[0]")
    yield prompt(["hi", 5], "prompt[1]", wrong_type)
    yield prompt([5, "hi"], "prompt[1]", wrong_type)
    yield prompt([5, 1.0], "prompt[1]", wrong_type)
    yield prompt([5, True], "prompt[1]", wrong_type)
    yield prompt([5, None], "prompt[1]", wrong_type)
    yield prompt([None], "prompt[0]", wrong_type)
    yield prompt([True], "prompt[0]", wrong_type)
    yield prompt([{}], "prompt[0]", wrong_type)
    yield prompt([[5], "hi"], "prompt[1]", wrong_type)
    yield prompt([[5, [6]]], "prompt[0][1]", wrong_type)
    yield prompt([-1], "prompt[0]")
    yield prompt([5, -(2**63)], "prompt[1]")
    yield prompt([49_152])  # as many ids as there are
    yield prompt([5, 2**63])
    yield prompt(["one", "two"], code="unsupported_parameter")
    yield prompt([[5], [6]], code="unsupported_parameter")


def _wrong_options() -> Iterator[Malformed]:
    yield _with("stop", "")
    yield _with("stop", [""], param="stop[0]")
    yield _with("stop", ["a", ""], param="stop[1]")
    yield _with("stop", ["a", 5], param="stop[1]", code="invalid_type")
    yield _with("stop", ["a", None], param="stop[1]", code="invalid_type")
    yield _with("stop", ["a", "b", "c", "d", "e"], mentions=("at most 4", "5"))
    yield _with("stop", "x" * 257, mentions=("256", "257"))
    yield _with("stop", ["x" * 100_000], param="stop[0]", mentions=("256", "100000"))
    yield _chat("two limits that differ", max_tokens=1, max_completion_tokens=2)
    yield _with("stream_options", {"include_usage": True}, mentions=("'stream' is true",))
    for key in ("include_usage", "include_obfuscation"):
        yield _chat(
            f"{key} 1", stream=True, stream_options={key: 1}, param=f"stream_options.{key}", _code="invalid_type"
        )
    yield _chat("stream true, options list", stream=True, stream_options=[], param="stream_options",
                _code="invalid_type")  # fmt: skip
    yield _with("logit_bias", {"hello": 1})
    yield _with("logit_bias", {"-1": 1})
    yield _with("logit_bias", {"1": 101}, param="logit_bias.1")
    yield _with("logit_bias", {"1": "x"}, param="logit_bias.1", code="invalid_type")
    yield _with("logit_bias", {str(token): 1 for token in range(301)}, mentions=("300", "301"))


def _unsupported_options() -> Iterator[Malformed]:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    options: dict[str, tuple[Any, ...]] = {
        "n": (2, 128),
        "logprobs": (True,),
        "top_logprobs": (1, 20),
        "tools": ([tool], "x", {}),
        "functions": ([{"name": "f"}],),
        "tool_choice": ("required", {"type": "function", "function": {"name": "f"}}),
        "function_call": ({"name": "f"},),
        "response_format": (
            {"type": "json_object"},
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
            {"type": "xml"},
            "json",
            {},
        ),
        "beam_width": (2, 4, "2", 0),
        "use_beam_search": (True, 1),
        "logit_bias": ({"1": 1}, {"1": -100}),
        "presence_penalty": (0.5, -2, 2),
        "frequency_penalty": (0.5, -0.1),
        "repetition_penalty": (1.1, 0),
        "top_k": (1, 40),
        "min_p": (0.1,),
        "min_tokens": (1,),
        "ignore_eos": (True,),
        "modalities": (["text", "audio"], ["audio"]),
        "best_of": (2,),
        "parallel_tool_calls": (1, "yes"),
    }
    unknown = {
        "audio": {"voice": "x"}, "prediction": {"type": "content", "content": "x"}, "reasoning_effort": "high",
        "verbosity": "low", "web_search_options": {}, "guided_json": {}, "guided_regex": ".*", "guided_choice": ["a"],
        "structured_outputs": {}, "stop_token_ids": [1], "bad_words": ["x"], "length_penalty": 1.0, "typical_p": 1.0,
        "mirostat": 1, "num_ctx": 4096, "options": {}, "keep_alive": "5m", "chat_template": "{{x}}",
        "chat_template_kwargs": {}, "add_generation_prompt": True, "continue_final_message": True, "documents": [],
        "truncate_prompt_tokens": 5, "prompt_logprobs": 1, "skip_special_tokens": False, "lora": "x", "api_key": "x",
        "base_url": "http://127.0.0.1:1", "extra_body": {}, "timeout": 5, "Temperature": 0, "temprature": 0,
        "max_token": 5, "system": "x", "input": "x", "prompt": "x", "engine": "x", "": 1, "__proto__": {}, "🦊": 1,
        "a.b": 1, "model ": "default",
    }  # fmt: skip
    for field, values in options.items():
        for value in values:
            yield _with(field, value, code="unsupported_parameter", mentions=(f"'{field}'", "not supported"))
    for field, value in unknown.items():
        yield _with(field, value, code="unsupported_parameter", mentions=(f"'{field}'", "does not know"))
    yield _with("x" * 100_000, 1, param="x" * 200, code="unsupported_parameter")
    for field, value in {
        "echo": True, "suffix": "x", "logprobs": 1, "best_of": 2, "messages": GOOD["messages"], "tools": [{}],
    }.items():  # fmt: skip
        body = {**GOOD_TEXT, field: value}
        yield _request(f"text, {field} unsupported", body, path=TEXT, param=field, code="unsupported_parameter")


def _wrong_extras() -> Iterator[Malformed]:
    def extra(name: str, value: Any, path: str | None = None, **expected: Any) -> Malformed:
        body = {**GOOD, "genkan": {name: value}}
        return _request(
            f"genkan.{name} {json.dumps(value)[:30]}", body, **{"param": path or f"genkan.{name}", **expected}
        )

    wrong_type = "invalid_type"
    value: Any
    for name in ("cach", "Cache", "", "route", "upstream", "model"):
        yield extra(name, 1, mentions=("not known", "cache_ttl_s"))
    yield extra("cache", "always", mentions=("no-store",))
    yield extra("cache", "", mentions=("no-store",))
    yield extra("cache", True, code=wrong_type)
    yield extra("cache", "only", code="unsupported_parameter")
    for value in (0, -1, 30 * 86_400 + 1, 2**63):
        yield extra("cache_ttl_s", value)
    for value in (1.5, "60", True):
        yield extra("cache_ttl_s", value, code=wrong_type)
    for value in (0, 86_401):
        yield extra("prefix_ttl_s", value, mentions=("86400",))
    yield extra("prefix_ttl_s", "60", code=wrong_type)
    for name in ("prefix_cache", "prefix_pin"):
        for value in (1, "true", []):
            yield extra(name, value, code=wrong_type)
    for value in (-101, 101):
        yield extra("priority", value)
    for value in ("high", 1.0, True):
        yield extra("priority", value, code=wrong_type)
    yield extra("tags", "a", code=wrong_type)
    for value in ([1], [""], ["x" * 65], ["x"] * 17, [["a"]]):
        yield extra("tags", value)
    for value in ("never", 5, {"type": "ephemeral"}):
        yield _with("cache_control", value)
    for short, option, value, other in (
        ("prompt_cache", "prefix_cache", True, False),
        ("prefix_caching", "prefix_cache", False, True),
        ("cache_ttl_seconds", "prefix_ttl_s", 60, 61),
        ("high_priority", "prefix_pin", True, False),
    ):
        yield _request(
            f"{short} against genkan.{option}",
            {**GOOD, short: value, "genkan": {option: other}},
            param=short,
            mentions=("contradict",),
        )
    yield _request(
        "two short forms that differ",
        {**GOOD, "prompt_cache": True, "prefix_caching": False},
        param="prefix_caching",
        mentions=("contradict",),
    )


def _too_long() -> Iterator[Malformed]:
    def long(name: str, text: str, **options: Any) -> Malformed:
        body = {**GOOD, "messages": [{"role": "user", "content": text}], **options}
        return _request(
            f"too long: {name}", body, param="messages", code="context_length_exceeded", mentions=(f"{WINDOW} tokens",)
        )

    def text(name: str, prompt: Any, given: int, **options: Any) -> Malformed:
        return _request(
            f"text too long: {name}",
            {**GOOD_TEXT, "prompt": prompt, **options},
            path=TEXT,
            param="prompt",
            code="context_length_exceeded",
            mentions=(f"{WINDOW} tokens", f"{given} tokens"),
        )

    yield text("one token over the window", [5] * WINDOW, WINDOW + 1)
    yield text("the prompt alone one over", [5] * (WINDOW + 1), WINDOW + 2)
    yield text("streamed", [5] * WINDOW, WINDOW + 1, stream=True)
    yield text("the answer", [5], WINDOW + 1, max_tokens=WINDOW)
    yield text("an endless answer", [5], 2**31, max_tokens=2**31 - 1)
    yield text("half and half", [5] * 4000, 8193, max_tokens=4193)
    yield text("900000 ids", [5] * 900_000, 900_001)
    yield long("just over", "a " * (WINDOW - 20))
    yield long("the answer", "hi", max_tokens=WINDOW)
    yield long("an endless answer", "hi", max_completion_tokens=2**31 - 1, max_tokens=None)
    yield long("streamed", "a " * WINDOW, stream=True)
    yield long("1 MB of words", "hello world " * 87_000)
    yield long("3 MB of words", "hello world " * 260_000)
    yield long("3 MB of one letter", "a" * 3_000_000)
    yield long("3 MB of digits", "7" * 3_000_000)
    yield long("3 MB of blanks", " " * 3_000_000)
    yield long("3 MB of line breaks", "\n" * 1_500_000)
    yield long("2 MB of punctuation", "!?" * 1_000_000)
    yield long("1 MB without a blank", "abcdefghij" * 100_000)
    yield long("600,000 ideographs", "".join(chr(0x4E00 + index * 7919 % 20_000) for index in range(600_000)))
    yield long("300,000 emoji", "🦊" * 300_000)
    yield long("500,000 special tokens", "<|im_end|>" * 300_000)
    many = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}] * 30_000
    yield _chat("too long: 60000 messages", messages=many, _code="context_length_exceeded")
    parts = [{"type": "text", "text": "x "}] * 80_000
    yield _chat(
        "too long: 80000 parts",
        messages=[{"role": "user", "content": parts}],
        _code="context_length_exceeded",
    )


def _wrong_calls() -> Iterator[Malformed]:
    def call(name: str, body: Any, **expected: Any) -> Malformed:
        return _request(f"call: {name}", body, path=CALL, **expected)

    messages = GOOD["messages"]
    wrong_type, missing = "invalid_type", "missing_required_parameter"
    yield call("empty object", {}, code=missing, param="messages")
    yield call("messages null", {"messages": None}, code=missing, param="messages")
    yield call("messages string", {"messages": "hi"}, code=wrong_type, param="messages")
    yield call("no messages", {"messages": []}, param="messages")
    yield call("message without role", {"messages": [{"content": "x"}]}, code=missing, param="messages[0].role")
    yield call("list", [GOOD], mentions=("must be a JSON object",))
    yield call("empty body", b"", mentions=("not valid JSON",))
    yield call("NaN", b'{"messages":[{"role":"user","content":"x"}],"temperature":NaN}')
    yield call("duplicate key", b'{"messages":[],"messages":[]}', mentions=("duplicate key",))
    yield call("deep", b'{"messages":' + b"[" * 1_000_000, mentions=("nested deeper",))
    yield call("unknown model", {"messages": messages, "model": "x"}, status=404, code="model_not_found", param="model")
    yield call("max_tokens 0", {"messages": messages, "max_tokens": 0}, param="max_tokens")
    yield call("stop 5", {"messages": messages, "stop": 5}, code=wrong_type, param="stop")
    yield call("stream 1", {"messages": messages, "stream": 1}, code=wrong_type, param="stream")
    yield call("genkan list", {"messages": messages, "genkan": []}, code=wrong_type, param="genkan")
    yield call("tools", {"messages": messages, "tools": [{}]}, code="unsupported_parameter", param="tools")
    yield call("unknown key", {"messages": messages, "msgs": 1}, code="unsupported_parameter", param="msgs")
    yield call(
        "too long",
        {"messages": messages, "max_tokens": WINDOW},
        code="context_length_exceeded",
        param="messages",
        mentions=(str(WINDOW),),
    )
    yield call(
        "too long, streamed",
        {"messages": messages, "max_tokens": WINDOW, "stream": True},
        code="context_length_exceeded",
        param="messages",
    )
