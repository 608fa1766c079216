"""What the image's HEALTHCHECK runs."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from genkan.server.healthcheck import is_ready


@contextmanager
def answering(status: int) -> Generator[dict[str, str], None, None]:
    """A server whose /readyz answers so, and the environment that names its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield {"BENTOML_PORT": str(server.server_port)}
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False), (404, False)])
def test_ready_is_a_200_of_readyz(status: int, ready: bool) -> None:
    with answering(status) as environ:
        assert is_ready(environ) is ready


def test_the_port_of_the_entry_point_wins_as_it_does_there() -> None:
    with answering(200) as environ:
        assert is_ready({"PORT": environ["BENTOML_PORT"], "BENTOML_PORT": "1"})


def test_nobody_there_is_not_ready() -> None:
    with answering(200) as environ:
        pass
    assert not is_ready(environ)
