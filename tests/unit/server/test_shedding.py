"""Which requests are refused, and who hears of it."""

import logging

import pytest
from log_pipe import Pipe

from genkan.config import TelemetryConfig
from genkan.gateway.overload import CALM_S, KEPT_SHARE, STANDING_S, Overload
from genkan.server.shedding import Shedding
from genkan.telemetry.access_log import AccessLog

CHAT = "/v1/chat/completions"


class Told(list[tuple[str, int]]):
    def finished(self, path: str, status: int, seconds: float) -> None:
        assert seconds == 0
        self.append((path, status))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def shedding(told: Told) -> Shedding:
    shedding = Shedding(Overload(0.02), [CHAT, "/call"], [told])
    for number in range(4):
        shedding.looked(number * STANDING_S / 2, 0.05, 0.03)
    assert shedding.overload.sheds
    return shedding


def test_what_costs_work_is_refused_and_counted(shedding: Shedding, told: Told) -> None:
    assert shedding.refuses(CHAT.encode())
    assert shedding.refuses(b"/call?x=1")
    assert told == [(CHAT, 503), ("/call", 503)]


def test_its_error_is_told_by_its_code() -> None:
    errors: list[tuple[str, str]] = []
    shedding = Shedding(Overload(0.02), [CHAT], [], lambda path, code: errors.append((path, code)))
    for number in range(4):
        shedding.looked(number * STANDING_S / 2, 0.05, 0.03)
    assert not shedding.refuses(b"/v1/models")
    assert shedding.refuses(CHAT.encode())
    assert errors == [(CHAT, "server_is_overloaded")]


@pytest.mark.parametrize(
    "target", [b"/admin/keys", b"/admin/drain", b"/v1/models", b"/", b"", b"/v1/chat/completions/"]
)
def test_nothing_else_is(shedding: Shedding, told: Told, target: bytes) -> None:
    assert not shedding.refuses(target)
    assert told == []


def test_an_answer_makes_room_for_a_request(shedding: Shedding) -> None:
    shedding.looked(1.0, 0.02, KEPT_SHARE * 0.02)
    shedding.finished("/v1/models", 200, 0.1)
    assert shedding.refuses(CHAT.encode())
    shedding.finished(CHAT, 200, 0.1)
    assert not shedding.refuses(CHAT.encode())
    assert shedding.refuses(CHAT.encode())


def test_what_others_take_of_the_core_is_no_overload() -> None:
    shedding = Shedding(Overload(0.02), [CHAT], [])
    for number in range(100):
        shedding.looked(0.01 * number, 0.5, 0.01)
    assert not shedding.overload.sheds


def test_the_log_has_its_begin_and_its_end(shedding: Shedding, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        assert shedding.refuses(CHAT.encode())
    with caplog.at_level(logging.WARNING):
        shedding.looked(5.0, 0.0, 0.0)
        shedding.looked(5.0 + CALM_S, 0.0, 0.0)
    [record] = caplog.records
    assert "3 refused requests" in record.getMessage()


def test_each_refused_request_has_its_line(told: Told) -> None:
    pipe = Pipe()
    log = AccessLog(TelemetryConfig(log_format="json"), write=pipe.write)
    shedding = Shedding(Overload(0.02), [CHAT], [told], access_log=log)
    shedding.refused(CHAT.encode() + b"?key=sk-secret", "req_1")
    log.close()
    [line] = pipe.lines
    assert (line["message"], line["id"]) == (f"POST {CHAT}", "req_1")
    assert (line["status"], line["error"]) == (503, "server_is_overloaded")
