"""Wrong before any field is looked at: paths, media types, sizes, bytes that are no strict JSON."""

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

from e2e.malformed import (
    BODY_LIMIT,
    CALL,
    CHAT,
    GOOD,
    JSON,
    TEXT,
    Malformed,
    with_literal,
    wrong_request,
)


def requests() -> Iterator[Malformed]:
    yield from _paths_and_methods()
    yield from _media_types()
    yield from _bodies_over_the_limit()
    yield from _not_json()
    yield from _duplicate_keys()
    yield from _deep_nesting()
    yield from _bad_encodings()


def _paths_and_methods() -> Iterator[Malformed]:
    unknown = [
        "/v1", "/v1/", "/v1/chat", "/v1/chat/completions/", "/V1/chat/completions", "//v1/chat/completions",
        "/v1/chat/completions/x", "/v1/chat/completions;x", "/chat/completions", "/v1/embedding", "/v1/responses",
        "/v1/audio/speech", "/v1/files", "/v2/chat/completions", "/admin", "/admin/nothing", "/dashboard", "/docs",
        "/docs.json", "/assets/x.js", "/favicon.ico", "/call/", "/health/", "/readyz/", "/metrics/",
        "/v1/models/", "/../etc/passwd", "/%2e%2e/etc/passwd", "/.env", "/v1/%63hat", "/%00", "/complete", "/predict",
    ]  # fmt: skip
    for path in unknown:
        for method in ("GET", "POST"):
            yield wrong_request(f"{method} {path}", GOOD, status=404, code="unknown_url", method=method, path=path)
    allowed = {
        CHAT: "POST", TEXT: "POST", CALL: "POST", "/v1/embeddings": "POST", "/batch_predict": "POST",
        "/v1/models": "GET, HEAD", "/v1/models/default": "GET, HEAD",
        "/models": "GET, HEAD", "/health": "GET, HEAD", "/": "GET, HEAD", "/livez": "GET, HEAD",
        "/readyz": "GET, HEAD", "/metrics": "GET, HEAD", "/schema.json": "GET, HEAD",
        "/openapi.json": "GET, HEAD",
    }  # fmt: skip
    for path, right in allowed.items():
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            if method not in right:
                yield wrong_request(
                    f"{method} {path}",
                    GOOD,
                    status=405,
                    code="method_not_allowed",
                    mentions=(method, path, right),
                    method=method,
                    path=path,
                )
    for model in ("no-such-model", "default/x", "DEFAULT", "%F0%9F%A6%8A", "..%2F..%2Fetc", "x" * 3000):
        yield wrong_request(
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
            yield wrong_request(
                f"{path} as {kind or 'an empty type'}",
                good,
                status=415,
                code="unsupported_media_type",
                path=path,
                headers={"content-type": kind},
            )
        yield wrong_request(
            f"{path} without a type", good, status=415, code="unsupported_media_type", path=path, headers={}
        )
    packed = {"gzip": gzip.compress(good), "deflate": zlib.compress(good), "br": good, "gzip, gzip": good, "x": good}
    for coding, body in packed.items():
        yield wrong_request(
            f"body in {coding}",
            body,
            status=415,
            code="unsupported_media_type",
            mentions=("compressed", coding),
            headers={**JSON, "content-encoding": coding},
        )
    yield wrong_request(
        "multipart garbage",
        b"--x\r\nnot a part",
        status=415,
        code="unsupported_media_type",
        path=CALL,
        headers={"content-type": "multipart/form-data; boundary=x"},
    )


def _bodies_over_the_limit() -> Iterator[Malformed]:
    def over(name: str, size: int, **more: Any) -> Malformed:
        return wrong_request(
            name, b" " * size, status=413, code="request_too_large", mentions=(str(BODY_LIMIT),), **more
        )

    for path in (CHAT, TEXT, CALL):
        yield over(f"{path} one byte over", BODY_LIMIT + 1, path=path)
    yield over("twice the limit", 2 * BODY_LIMIT)
    yield over("ten times the limit", 10 * BODY_LIMIT)
    yield over("chunks over the limit", BODY_LIMIT + (1 << 20), chunk_bytes=1 << 16)
    yield over("chunks one byte over", BODY_LIMIT + 1, chunk_bytes=1 << 20)
    yield over("one chunk over the limit", BODY_LIMIT + 1, chunk_bytes=2 * BODY_LIMIT)
    yield over("chunks of twice the limit", 2 * BODY_LIMIT, chunk_bytes=1 << 18)
    yield wrong_request("exactly at the limit", b" " * BODY_LIMIT)
    yield wrong_request("chunks exactly at the limit", b" " * BODY_LIMIT, chunk_bytes=1 << 20)
    # The client waits for what the server says to its length, and never sends a byte.
    huge = {**JSON, "content-length": str(100 << 30)}
    yield wrong_request("declared 100 GiB", b"", status=413, code="request_too_large", headers=huge)


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
        "Python's True": with_literal("stream", "True").decode(),
        "Python's None": with_literal("stop", "None").decode(),
        "undefined": with_literal("stop", "undefined").decode(),
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
        "leading zero": with_literal("max_tokens", "01").decode(),
        "plus sign": with_literal("max_tokens", "+1").decode(),
        "leading dot": with_literal("temperature", ".5").decode(),
        "trailing dot": with_literal("temperature", "1.").decode(),
        "hexadecimal": with_literal("max_tokens", "0x10").decode(),
        "underscore": with_literal("max_tokens", "1_0").decode(),
    }
    for name, text in texts.items():
        yield wrong_request(name, text.encode(), mentions=("not valid JSON",))
    for value in (None, True, 5, 1.5, "model", [], [GOOD]):
        yield wrong_request(f"top level {json.dumps(value)[:20]}", value, mentions=("must be a JSON object",))
    for literal in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e99999999", "0.1e400"):
        for field in ("temperature", "max_tokens", "unknown"):
            yield wrong_request(f"{field} {literal}", with_literal(field, literal), mentions=("not valid JSON",))
    for digits in (str(2**64), str(-(2**63) - 1), "9" * 400, "-" + "9" * 5000, "9" * 1_000_000):
        yield wrong_request(
            f"integer {digits[:24]} of {len(digits)} digits",
            with_literal("seed", digits),
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
        yield wrong_request(f"duplicate key: {name}", text.encode(), mentions=("duplicate key",))


def _deep_nesting() -> Iterator[Malformed]:
    def nested(opening: str, closing: str, depth: int) -> bytes:
        return with_literal("metadata", opening * depth + "1" + closing * depth)

    too_deep = ("nested deeper than 100 levels",)
    for depth in (100, 101, 1_000, 10_000, 1_000_000):  # and one level for the body
        yield wrong_request(f"{depth} lists", nested("[", "]", depth), mentions=too_deep)
    for depth in (100, 10_000, 500_000):
        yield wrong_request(f"{depth} objects", nested('{"a":', "}", depth), mentions=too_deep)
    yield wrong_request("10000 lists and objects", nested('[{"a":', "}]", 10_000), mentions=too_deep)
    for depth in (10_000, 800_000):
        yield wrong_request(f"{depth} lists never closed", b"[" * depth, mentions=too_deep)
        yield wrong_request(f"{depth} objects never closed", b'{"a":' * depth, mentions=too_deep)
    yield wrong_request("nested content", with_literal("messages", "[" * 5_000 + "]" * 5_000), mentions=too_deep)


def _bad_encodings() -> Iterator[Malformed]:
    good = json.dumps(GOOD)
    not_utf8 = {
        "UTF-16": good.encode("utf-16"),
        "Latin-1": with_literal("user", '"é"').decode().encode("latin-1"),
        "overlong slash": with_literal("user", '"@"').replace(b"@", b"\xc0\xaf"),
        "overlong zero": with_literal("user", '"@"').replace(b"@", b"\xc0\x80"),
        "half a character": with_literal("user", '"@"').replace(b"@", b"\xf0\x9f\xa6"),
        "lone continuation": with_literal("user", '"@"').replace(b"@", b"\x80"),
        "surrogate as bytes": with_literal("user", '"@"').replace(b"@", b"\xed\xa0\x80"),
        "beyond Unicode": with_literal("user", '"@"').replace(b"@", b"\xf4\x90\x80\x80"),
        "byte 255": b"\xff" + good.encode(),
        "cut in a character": good.encode() + b"\xe2\x82",
    }
    for name, body in not_utf8.items():
        yield wrong_request(f"not UTF-8: {name}", body, mentions=("not valid UTF-8",))
    for name, body in {
        "byte order mark": b"\xef\xbb\xbf" + good.encode(),
        "UTF-16 without a mark": good.encode("utf-16-le"),
        "UTF-16 big-endian": good.encode("utf-16-be"),
        "UTF-32": good.encode("utf-32-le"),
        "two byte order marks": b"\xef\xbb\xbf" * 2 + good.encode(),
    }.items():
        yield wrong_request(name, body, mentions=("not valid JSON",))
    for name, escape in {
        "high": "\\ud800",
        "low": "\\udc00",
        "reversed pair": "\\udc00\\ud800",
        "upper case": "\\uDBFF",
        "two high": "\\ud83d\\ud83d\\ude00",
    }.items():
        message = '[{"role":"user","content":"a@b"}]'.replace("@", escape)
        yield wrong_request(f"lone surrogate: {name}", with_literal("messages", message), mentions=("lone surrogate",))
    for field, literal in {
        "model": '"\\ud800"',
        "stop": '["\\ud800"]',
        "metadata": '{"\\ud800":1}',
        "user": '"\\udfff"',
    }.items():
        yield wrong_request(f"lone surrogate in {field}", with_literal(field, literal), mentions=("lone surrogate",))
