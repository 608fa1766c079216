"""A URL as people write it, and the request that is made of it."""

import pytest

from genkan.bench.client.target import parse_target


@pytest.mark.parametrize(
    ("url", "asked", "models"),
    [
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000/v1/chat/completions", "/v1/models"),
        ("127.0.0.1:3000/v1/", "http://127.0.0.1:3000/v1/chat/completions", "/v1/models"),
        ("https://host/v1", "https://host/v1/chat/completions", "/v1/models"),
        ("http://host/team/v1", "http://host/team/v1/chat/completions", "/team/v1/models"),
        ("http://[::1]:80", "http://[::1]/v1/chat/completions", "/v1/models"),
    ],
)
def test_a_url_with_or_without_v1_and_scheme(url: str, asked: str, models: str) -> None:
    target = parse_target(url)
    assert (target.url, target.models_path) == (asked, models)


def test_another_path_is_asked_at_the_server() -> None:
    assert parse_target("http://host/v1", "/call").url == "http://host/call"


@pytest.mark.parametrize(
    ("url", "path", "key"),
    [
        ("ftp://host", None, None),
        ("http://", None, None),
        ("http://host:port", None, None),
        ("http://host?a=b", None, None),
        ("http://me:secret@host", None, None),
        ("http://host", "call", None),
        ("http://host", "/gọi", None),
        ("http://host/a b", None, None),
        ("http://host", "/a\r\nx: y", None),
        ("http://nhà", None, None),
        ("http://host", None, "two\nlines"),
    ],
)
def test_what_is_no_url_path_or_key_is_refused(url: str, path: str | None, key: str | None) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_target(url, path, key)


def test_the_request_has_the_key_and_nothing_shown_has_it() -> None:
    target = parse_target("http://host:81", key="sk-secret")
    head, body = target.post(b'{"a": 1}').split(b"\r\n\r\n")
    assert body == b'{"a": 1}'
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nhost: host:81\r\n")
    assert {b"authorization: Bearer sk-secret", b"content-length: 8"} <= set(head.split(b"\r\n"))
    assert "sk-secret" not in repr(target) + target.url


def test_without_a_key_there_is_no_such_header() -> None:
    assert b"authorization" not in parse_target("http://host").get_models()
