"""Lines about requests: what they say, and that nobody waits for them."""

import json
import logging
import threading
from collections.abc import Generator
from datetime import datetime

import pytest

from genkan.config import TelemetryConfig
from genkan.telemetry import access_log
from genkan.telemetry.access_log import AccessLog
from genkan.telemetry.logging import configure

JSON = TelemetryConfig(log_format="json")


class Pipe:
    """Where lines go; ``hold`` it, and whoever writes has to wait."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.open = threading.Event()
        self.reached = threading.Event()
        self.open.set()

    def write(self, lines: bytes) -> None:
        self.reached.set()
        assert self.open.wait(10)
        self.written.append(lines)

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in b"".join(self.written).splitlines()]


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


def test_a_line_is_one_json_object_with_all_fields(pipe: Pipe) -> None:
    log = AccessLog(JSON, write=pipe.write)
    log.start()
    log.request("POST", "/v1/x\ny", {"id": "req_1", "status": 200, "model": "mô hình", "usage": {"total_tokens": 3}})
    log.close()
    [line] = pipe.lines
    stamp = datetime.fromisoformat(str(line.pop("time")))
    assert stamp.utcoffset() is not None
    assert line == {
        "level": "info",
        "logger": "genkan.access",
        "message": "POST /v1/x\ny",
        "id": "req_1",
        "status": 200,
        "model": "mô hình",
        "usage": {"total_tokens": 3},
    }
    assert len(b"".join(pipe.written).splitlines()) == 1


def test_order_is_kept_and_nothing_is_lost_at_the_end(pipe: Pipe) -> None:
    log = AccessLog(JSON, write=pipe.write)
    log.start()
    for number in range(5000):
        log.request("GET", "/", {"number": number})
    log.close()
    assert [line["number"] for line in pipe.lines] == list(range(5000))
    assert len(pipe.written) < 100  # gathered


def test_who_notes_a_request_never_waits_for_a_pipe_that_is_not_read(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "MAX_WAITING", 10)
    pipe.open.clear()
    log = AccessLog(JSON, write=pipe.write)
    log.start()
    log.request("GET", "/", {"number": 0})
    assert pipe.reached.wait(10)  # the thread is stuck now
    for number in range(1, 16):
        log.request("GET", "/", {"number": number})
    pipe.open.set()
    log.close()
    numbers = [line["number"] for line in pipe.lines if "number" in line]
    assert numbers == list(range(11))
    assert [line["message"] for line in pipe.lines if "number" not in line] == ["5 lines were dropped"]


def test_a_pipe_that_broke_ends_nothing() -> None:
    def broken(lines: bytes) -> None:
        raise BrokenPipeError

    log = AccessLog(JSON, write=broken)
    log.start()
    log.request("GET", "/", {})
    log.close()
    log.request("GET", "/", {})


def test_what_is_not_valid_unicode_is_written_all_the_same(pipe: Pipe) -> None:
    log = AccessLog(JSON, write=pipe.write)
    log.start()
    log.request("GET", "/\udcff", {"model": "\ud800"})
    log.close()
    assert pipe.lines[0]["message"] == "GET /?"


def test_a_level_below_the_configured_one_writes_nothing(pipe: Pipe) -> None:
    log = AccessLog(JSON, logging.DEBUG, write=pipe.write)
    log.start()
    log.request("GET", "/", {})
    log.close()
    assert pipe.written == []


@pytest.fixture
def logger_as_before() -> Generator[None, None, None]:
    logger = logging.getLogger("genkan")
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.mark.usefixtures("logger_as_before")
def test_people_get_lines_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    config = TelemetryConfig(log_format="text")
    configure(config)
    log = AccessLog(config)
    log.start()
    log.request("GET", "/v1/models", {"status": 200})
    assert capsys.readouterr().err.endswith("genkan.access: GET /v1/models status=200\n")
    log.close()
