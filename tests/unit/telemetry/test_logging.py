"""Log lines for machines and for people."""

import json
import logging
import subprocess
import sys
from collections.abc import Generator
from typing import Literal

import pytest

from genkan.config import TelemetryConfig
from genkan.telemetry.access_log import AccessLog
from genkan.telemetry.line_writer import line_writer
from genkan.telemetry.logging import FIELDS, configure


@pytest.fixture(autouse=True)
def logger_as_before() -> Generator[None, None, None]:
    logger = logging.getLogger("genkan")
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


def written(capfd: pytest.CaptureFixture[str]) -> str:
    """What the thread that writes JSON lines has written by now."""
    line_writer().close()
    return capfd.readouterr().err


def test_json_lines_carry_fields_and_are_one_object_each(capfd: pytest.CaptureFixture[str]) -> None:
    configure(TelemetryConfig(log_format="json"))
    logging.getLogger("genkan.access").info("GET %s", "/a\nb", extra={FIELDS: {"status": 200, "model": "mô hình"}})
    [line] = written(capfd).splitlines()
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


def test_auto_is_json_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    configure(TelemetryConfig(log_format="auto"))
    logging.getLogger("genkan").info("x")
    assert json.loads(written(capfd))["message"] == "x"


def test_the_level_is_obeyed_and_configuring_twice_does_not_double_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure(TelemetryConfig(log_format="text"))
    configure(TelemetryConfig(log_format="text", log_level="warning"))
    logging.getLogger("genkan.x").info("no")
    logging.getLogger("genkan.x").warning("yes")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_traceback_is_part_of_the_json_line(capfd: pytest.CaptureFixture[str]) -> None:
    configure(TelemetryConfig(log_format="json"))
    try:
        raise ValueError("inner")
    except ValueError:
        logging.getLogger("genkan.x").exception("outer")
    assert "ValueError: inner" in json.loads(written(capfd))["traceback"]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_what_an_exception_says_is_redacted_and_cut_and_forges_no_line(
    capfd: pytest.CaptureFixture[str], log_format: Literal["json", "text"]
) -> None:
    configure(TelemetryConfig(log_format=log_format))
    try:
        try:
            raise KeyError("call 010-1234-5678")
        except KeyError as error:
            raise ValueError("mail jane@mail.example \x1b[2J " + "x" * 5000) from error
    except ValueError:
        logging.getLogger("genkan.x").exception("outer")
    output = written(capfd)
    assert "ValueError: mail [email] " in output
    assert "KeyError: 'call [phone]'" in output
    assert "Raised from that" in output
    assert "in test_what_an_exception_says" in output
    assert "\x1b" not in output
    assert "x" * 300 not in output


def test_lines_of_the_access_log_and_all_others_are_in_one_order(capfd: pytest.CaptureFixture[str]) -> None:
    config = TelemetryConfig(log_format="json")
    configure(config)
    log = AccessLog(config)
    for number in range(10):
        logging.getLogger("genkan.x").warning("%d", number)
        log.request("GET", str(number), {})
    log.close()
    messages = [json.loads(line)["message"] for line in capfd.readouterr().err.splitlines()]
    assert messages == [message for number in range(10) for message in (f"{number}", f"GET {number}")]


def test_nobody_waits_for_a_pipe_that_is_not_read_and_the_process_ends_all_the_same() -> None:
    code = (
        "import logging, sys\n"
        "from genkan.config import TelemetryConfig\n"
        "from genkan.telemetry.logging import configure\n"
        "configure(TelemetryConfig(log_format='json'))\n"
        "for _ in range(300):\n"
        "    logging.getLogger('genkan.x').error('x' * 1000)\n"  # a pipe holds 64 KiB
        "print('done', flush=True)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"done\n"
        assert process.wait(30) == 0
        lines = process.stderr.read().splitlines()
    assert json.loads(lines[0])["message"] == "x" * 1000


def test_what_was_logged_last_is_written_when_the_process_ends() -> None:
    code = (
        "import logging\n"
        "from genkan.config import TelemetryConfig\n"
        "from genkan.telemetry.logging import configure\n"
        "configure(TelemetryConfig(log_format='json'))\n"
        "logging.getLogger('genkan.x').error('farewell')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=30)
    assert json.loads(done.stderr)["message"] == "farewell"
