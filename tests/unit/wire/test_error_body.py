"""OpenAI's error object."""

import json

import pytest

from genkan.errors import InternalError, InvalidRequest, RequestError
from genkan.wire.error_body import error_body


@pytest.mark.parametrize(
    ("error", "content"),
    [
        (
            InvalidRequest("It must be a number.", param="top_p"),
            {
                "message": "It must be a number.",
                "type": "invalid_request_error",
                "param": "top_p",
                "code": "invalid_value",
            },
        ),
        (RequestError("No."), {"message": "No.", "type": "server_error", "param": None, "code": None}),
        (
            InvalidRequest("bad \ud800 text", param="\udfff"),
            {"message": "bad ? text", "type": "invalid_request_error", "param": "?", "code": "invalid_value"},
        ),
    ],
    ids=["all fields", "only a message", "what UTF-8 has no bytes for"],
)
def test_has_four_fields_whatever_the_error_knows(error: RequestError, content: dict[str, str | None]) -> None:
    assert json.loads(error_body(error)) == {"error": content}


def test_a_bug_of_ours_tells_nothing_of_itself() -> None:
    assert b"internal_error" in error_body(InternalError())
