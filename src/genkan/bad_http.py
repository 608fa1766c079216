"""What a client gets whose bytes are not HTTP: OpenAI's error body here too.

uvicorn answers such bytes itself, in plain text, before any application is asked, and BentoML leaves no way to choose
the protocol class, so its one method for this is replaced.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from genkan.api.exchange import new_request_id
from genkan.errors import InvalidRequest
from genkan.wire.error_body import error_body


def answer_in_openai_shape() -> None:
    """From now on, in this process."""
    HttpToolsProtocol.send_400_response = _send_400_response  # type: ignore[method-assign]


def _send_400_response(self: HttpToolsProtocol, msg: str) -> None:
    body = error_body(InvalidRequest(msg))
    head = (
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nx-request-id: {new_request_id()}\r\nconnection: close\r\n\r\n"
    )
    self.transport.write(head.encode() + body)
    self.transport.close()
