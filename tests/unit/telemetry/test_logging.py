"""Log lines for machines and for people."""

import json
import logging
from collections.abc import Generator

import pytest

from genkan.config import TelemetryConfig
from genkan.telemetry.logging import FIELDS, configure


@pytest.fixture(autouse=True)
def logger_as_before() -> Generator[None, None, None]:
    logger = logging.getLogger("genkan")
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


def test_json_lines_carry_fields_and_are_one_object_each(capsys: pytest.CaptureFixture[str]) -> None:
    configure(TelemetryConfig(log_format="json"))
    logging.getLogger("genkan.access").info("GET %s", "/a\nb", extra={FIELDS: {"status": 200, "model": "mô hình"}})
    [line] = capsys.readouterr().err.splitlines()
    content = json.loads(line)
    assert (content["message"], content["status"], content["model"]) == ("GET /a\nb", 200, "mô hình")
    assert (content["level"], content["logger"]) == ("info", "genkan.access")


def test_text_lines_are_readable(capsys: pytest.CaptureFixture[str]) -> None:
    configure(TelemetryConfig(log_format="text"))
    logging.getLogger("genkan.engine").warning("slow", extra={FIELDS: {"ms": 12.5}})
    assert capsys.readouterr().err.endswith("WARNING genkan.engine: slow ms=12.5\n")


def test_no_client_can_forge_a_text_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure(TelemetryConfig(log_format="text"))
    fields = {"model": "a\n12:00:00 INFO forged", "other": "\u2028\x1b[2J"}
    logging.getLogger("genkan.access").info("GET %s", "/a\r\nb", extra={FIELDS: fields})
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    assert output.endswith(r"GET /a\x0d\x0ab model=a\x0a12:00:00 INFO forged other=\x2028\x1b[2J" + "\n")


def test_auto_is_json_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    configure(TelemetryConfig(log_format="auto"))
    logging.getLogger("genkan").info("x")
    assert json.loads(capsys.readouterr().err)["message"] == "x"


def test_the_level_is_obeyed_and_configuring_twice_does_not_double_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure(TelemetryConfig(log_format="text"))
    configure(TelemetryConfig(log_format="text", log_level="warning"))
    logging.getLogger("genkan.x").info("no")
    logging.getLogger("genkan.x").warning("yes")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_traceback_is_part_of_the_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure(TelemetryConfig(log_format="json"))
    try:
        raise ValueError("inner")
    except ValueError:
        logging.getLogger("genkan.x").exception("outer")
    assert "ValueError: inner" in json.loads(capsys.readouterr().err)["traceback"]
