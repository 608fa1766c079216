"""Lines about requests: what they say."""

import logging
from collections.abc import Generator
from datetime import datetime

import pytest
from log_pipe import Pipe

from genkan.config import TelemetryConfig
from genkan.telemetry.access_log import AccessLog
from genkan.telemetry.logging import configure

JSON = TelemetryConfig(log_format="json")


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


def test_what_is_not_valid_unicode_is_written_all_the_same(pipe: Pipe) -> None:
    log = AccessLog(JSON, write=pipe.write)
    log.start()
    log.request("GET", "/\udcff", {"model": "\ud800"})
    log.close()
    assert pipe.lines[0]["message"] == "GET /?"


def test_fields_that_cannot_be_written_leave_the_rest_of_the_line(pipe: Pipe) -> None:
    nested: list[object] = []
    for _ in range(300):
        nested = [nested]
    log = AccessLog(JSON, write=pipe.write)
    log.request("GET", "/", {"deep": nested, "status": 200, "\ud800": {"\udfff": "\ud800"}, "usage": {"a": [1]}})
    log.close()
    [line] = pipe.lines
    assert (line["message"], line["status"], line["usage"]) == ("GET /", 200, {"a": [1]})
    assert (line["deep"], line["?"]) == ("(cannot be written)", "(cannot be written)")


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
def test_lines_that_differ_by_their_ids_are_as_all_others(pipe: Pipe) -> None:
    log = AccessLog(JSON, write=pipe.write)
    fields = {"status": 503, "error": "é"}
    note = log.alike("POST", "/v1/é", fields)
    note("req_1")
    note("req_2")
    log.request("POST", "/v1/é", {"id": "req_2", **fields})
    log.close()
    first, second, other = ({**line, "time": ""} for line in pipe.lines)
    assert second == other == {**first, "id": "req_2"}
    assert all(str(line["time"]).endswith("+00:00") for line in pipe.lines)


def test_people_get_lines_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    config = TelemetryConfig(log_format="text")
    configure(config)
    log = AccessLog(config)
    log.start()
    log.request("GET", "/v1/models", {"status": 200})
    assert capsys.readouterr().err.endswith("genkan.access: GET /v1/models status=200\n")
    log.close()
