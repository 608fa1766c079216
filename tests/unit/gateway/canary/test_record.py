"""Decisions as they are audited."""

import pytest

from genkan.gateway.canary.record import Record

RECORD = Record(
    at_unix_s=1.5,
    by="auto",
    action="rollback",
    guard="error_rate",
    control="usual",
    canary="tried",
    fingerprint="00ff",
    run=2,
    error_probability=0.05,
    figures={"canary_samples": 7},
)


def test_what_was_written_is_read() -> None:
    assert Record.read(RECORD.write()) == RECORD


@pytest.mark.parametrize("written", [b"", b"\xff", b"[]", b"{}", b"7", RECORD._replace(guard="").write()[:-1]])
def test_what_is_no_record_is_none(written: bytes) -> None:
    assert Record.read(written) is None


def test_an_unknown_action_is_none() -> None:
    assert Record.read(RECORD.write().replace(b"rollback", b"rollover")) is None
