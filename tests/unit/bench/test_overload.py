"""What counts as a refusal in the soak of overload."""

import pytest

from genkan.bench.http_answer import Answer, WrongAnswer
from genkan.bench.overload import is_refusal
from genkan.gateway.overload import ServerOverloaded
from genkan.wire.error_body import error_body

BODY = error_body(ServerOverloaded())
HEAD = b"http/1.1 503 service unavailable\r\nretry-after: 1\r\nx-request-id: req_1\r\n"


def test_it_is_in_openais_form_and_says_when_to_come_back() -> None:
    assert is_refusal(Answer(503, BODY, closes=False), HEAD)
    assert not is_refusal(Answer(200, b"{}", closes=False), b"http/1.1 200 ok\r\n")


@pytest.mark.parametrize(
    ("body", "head", "why"),
    [
        (b"busy", HEAD, "another body"),
        (BODY.replace(b"server_is_overloaded", b"engine_unavailable"), HEAD, "another body"),
        (BODY, HEAD.replace(b"retry-after: 1", b"retry-after: 0"), "retry-after"),
        (BODY, HEAD.replace(b"retry-after: 1\r\n", b""), "retry-after"),
        (BODY, HEAD.replace(b"x-request-id: req_1\r\n", b""), "x-request-id"),
    ],
)
def test_another_503_is_an_error(body: bytes, head: bytes, why: str) -> None:
    with pytest.raises(WrongAnswer, match=why):
        is_refusal(Answer(503, body, closes=False), head)
