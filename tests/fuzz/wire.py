"""Headers, paths and bytes on the wire that no client of ours would send."""

import random
from typing import Final

Header = tuple[bytes, bytes]

_PATHS: Final = (
    "/", "/health", "/models", "/v1/models", "/v1/models/default", "/v1/models/", "/admin/keys", "/admin/keys/key_x",
    "/admin/keys/key_x/rotate", "/admin/limits", "/admin/ledger", "/admin/savings", "/admin/cost/report",
    "/admin/cost/compare", "/admin/cache", "/admin/prefix-cache", "/admin/canary", "/admin/canary/default", "/livez",
    "/readyz", "/healthz", "/metrics", "/schema.json", "/openapi.json", "/v1/chat/completions", "/call", "/tokenize",
    "/batch_predict", "/v1/embeddings", "/dashboard", "/docs", "/v1/responses", "//v1/models", "/v1/../admin/keys",
    "/%2e%2e/etc/passwd", "/%00", "/%ff", "/v1/models/%ff%fe", "/v1/models/a%2Fb", "/v1/models/" + "x" * 3000, "/*",
    "*",
)  # fmt: skip
_METHODS: Final = (
    "GET",
    "GET",
    "GET",
    "POST",
    "POST",
    "HEAD",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "PROPFIND",
)
_QUERIES: Final = (
    "", "", "", "tenant=x", "tenant=", "tenant=%00", "limit=0", "limit=10001", "limit=1e3", "limit=1", "after=1-1",
    "after=-", "format=csv", "format=html", "format=json", "format=xml", "attempts=true", "by=day", "by=x",
    "since=2026-02-30", "since=2026-01-01&until=2025-01-01", "days=0", "tokens=9" * 30, "gpus=1", "gpu_hour_usd=nan",
    "cache_hit_rate=1e-400", "all=true", "all=false", "a=b", "a", "=", "%", "%zz", "%ff=%ff", "a=1&a=2",
    "x=" + "y" * 2000,
    "model=default", "model=x", "requests_per_day=1e9", "input_tokens=-1", "prefix_share=0.5",
)  # fmt: skip
_NAMES: Final = (
    b"content-type", b"authorization", b"accept", b"accept-encoding", b"content-encoding", b"origin", b"expect",
    b"x-request-id", b"x-forwarded-for", b"cookie", b"connection", b"upgrade", b"range", b"priority",
    b"x-genkan-tenant",
    b"x-stainless-retry-count", b"idempotency-key", b"forwarded", b"host", b"if-none-match", b"te", b"x" * 300,
)  # fmt: skip
_VALUES: Final = (
    b"", b" ", b"x", b"*/*", b"application/json; charset=utf-8", b"application/json; charset=utf-16", b"text/plain",
    b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"application/json, text/html", b"gzip",
    b"identity", b"br, gzip;q=0", b"Bearer", b"Bearer ", b"Bearer sk-genkan-wrong", b"Basic eDp5", b"bearer $KEY",
    b"Bearer $KEY, Bearer x", b"http://evil.example", b"null", b"localhost:1", b"127.0.0.1", b"[::1]:3000",
    b"evil.example",
    b"100-continue", b"websocket", b"keep-alive, upgrade", b"close", b"bytes=0-", b"\xc3\xa9", b"\xff\xfe", b"x" * 3000,
    b"-1", b"99999999999999999999", b"text/html", b"h2c", b"trailers", b"\tx\t", b"a,b;c=d",
)  # fmt: skip
_RAW: Final = (
    b"\x00" * 50, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"GET http://evil.example/ HTTP/1.1\r\n\r\n",
    b"CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example:443\r\n\r\n", b"* * *\r\n\r\n", b"GET", b"",
    b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n", b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: evil\r\n\r\n",
)  # fmt: skip
#: A first chunk, the value of a content-length, and a header's line, each wrong.
_CHUNKS: Final = (b"zz\r\n", b"-1\r\n", b"ffffffffffffffff1\r\n", b"3\r\nabcd\r\n", b"0\r\n", b"5;x=\x00\r\n")
_LENGTHS: Final = (b"-1", b"1e3", b"0x10", b"", b"99999999999", b"18446744073709551616", b"5, 5", b"+5", b"1 2")
_LINES: Final = (b" folded", b"\tfolded", b": empty", b"no colon", b"na me: x", b"\x00: x")


def odd_header(rng: random.Random, headers: list[Header]) -> list[Header]:
    """The headers with one to three more, or others in their places."""
    headers = list(headers)
    for _ in range(rng.choice([1, 1, 2, 3])):
        header = rng.choice(_NAMES), rng.choice(_VALUES)
        if headers and rng.random() < 0.4:
            headers[rng.randrange(len(headers))] = header
        else:
            headers.append(header)
    return headers


def odd_path(rng: random.Random) -> tuple[str, str]:
    """A method, and a path with a query."""
    query = rng.choice(_QUERIES)
    return rng.choice(_METHODS), rng.choice(_PATHS) + (f"?{query}" if query else "")


def mutated_request(rng: random.Random, path: str, headers: list[Header], body: bytes) -> bytes:
    """A request's bytes, broken somewhere."""
    if rng.random() < 0.15:
        return rng.choice([rng.choice(_RAW), rng.randbytes(rng.choice([1, 30, 500]))])
    lines = [
        b"POST %s HTTP/1.1" % path.encode(),
        b"host: localhost",
        *(name + b": " + value for name, value in headers),
    ]
    framing = rng.randrange(9)
    if framing == 0:  # in chunks, as it should be
        lines.append(b"transfer-encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    elif framing == 1:  # in chunks whose lengths are wrong
        lines.append(b"transfer-encoding: chunked")
        body = (
            rng.choice([b"zz\r\n", b"-1\r\n", b"ffffffffffffffff1\r\n", b"3\r\nabcd\r\n", b"0\r\n", b"5;x=\x00\r\n"])
            + body
        )
    elif framing == 2:
        lines += [b"transfer-encoding: chunked", b"content-length: %d" % len(body)]
    elif framing == 3:
        lines += [b"content-length: %d" % len(body), b"content-length: %d" % (len(body) + rng.choice([0, 1, -1]))]
    elif framing == 4:
        wrong = rng.choice(
            [b"-1", b"1e3", b"0x10", b"", b"99999999999", b"18446744073709551616", b"5, 5", b"+5", b"1 2"]
        )
        lines.append(b"content-length: " + wrong)
    elif framing == 5:
        lines.append(b"content-length: %d" % (len(body) + rng.choice([1, 50])))
    else:
        lines.append(b"content-length: %d" % len(body))
    return _with_broken_lines(rng, lines) + body


def _with_broken_lines(rng: random.Random, lines: list[bytes]) -> bytes:
    end = b"\r\n"
    at = rng.randrange(len(lines))
    match rng.randrange(8):
        case 0:
            lines[at] = lines[at].replace(b" ", rng.choice([b"  ", b"\t", b"", b"\x00"]), 1)
        case 1:
            lines[at] += rng.choice([b"\x00", b"\r", b"\n", b"\x7f", b"\xff", b" "])
        case 2:
            lines.insert(
                at + 1, rng.choice([b" folded", b"\tfolded", b": empty", b"no colon", b"na me: x", b"\x00: x"])
            )
        case 3:
            end = b"\n"
        case 4:
            lines.insert(at + 1, b"x-many: 1\r\n" * rng.choice([50, 300]) + b"x-last: 1")
        case 5:
            data = bytearray(end.join(lines))
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            return bytes(data) + end + end
        case _:
            pass
    return end.join(lines) + end + end
