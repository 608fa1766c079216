"""``traceparent``: what is one, and what is not."""

import pytest

from genkan.wire.trace import read_traceparent

TRACE, SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
IDS = b"0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


@pytest.mark.parametrize(
    ("value", "flags"),
    [(b"00-%b-01", 1), (b"00-%b-00", 0), (b" 00-%b-01 ", 1), (b"cc-%b-03", 3), (b"cc-%b-01-what-the-future-holds", 1)],
)
def test_ids_and_flags_are_read(value: bytes, flags: int) -> None:
    assert read_traceparent(value % IDS) == (TRACE, SPAN, flags)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"00",
        b"ff-%b-01" % IDS,
        b"00-%b-01-more" % IDS,
        b"00-%b" % IDS,
        b"00-%b-1" % IDS,
        b"00-%b-01" % IDS.upper(),
        b"00-%032d-b7ad6b7169203331-01" % 0,
        b"00-0af7651916cd43dd8448eb211c80319c-%016d-01" % 0,
        b"00-%b-01\r\nx: y" % IDS,
        b"\xff" * 55,
    ],
)
def test_all_else_is_none(value: bytes | None) -> None:
    assert read_traceparent(value) is None
