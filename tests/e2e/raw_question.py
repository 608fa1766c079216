"""One question on a socket of its own, to be left at any moment."""

import json
import socket
import struct
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

from e2e.fault_gateway import FaultGateway
from e2e.tapped_client import QUESTION


def send(gateway: FaultGateway, model: str, **more: Any) -> socket.socket:
    """A connection on which the question has been sent; the gateway closes it after the answer."""
    body = json.dumps({"model": model, "messages": QUESTION, **more}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", gateway.server.port), timeout=15)
    connection.sendall(head.encode() + body)
    return connection


def taken_in(gateway: FaultGateway) -> None:
    """Return when the gateway has looked at what was sent before: it serves connections in turn."""
    for _ in range(5):
        with closing(HTTPConnection("127.0.0.1", gateway.server.port, timeout=5)) as connection:
            connection.request("GET", "/health")
            assert connection.getresponse().status == 200


def read_events(connection: socket.socket, count: int) -> None:
    """The beginning of a stream, at least so many events of it."""
    received = b""
    while received.count(b"data: ") < count:
        piece = connection.recv(65536)
        assert piece, f"the stream ended after {received!r}"
        received += piece


def read_all(connection: socket.socket) -> tuple[int, Any]:
    """Status and body of an answer that was not streamed."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    connection.close()
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), json.loads(body)


def reset(connection: socket.socket) -> None:
    """Close with RST, as a client that crashed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
