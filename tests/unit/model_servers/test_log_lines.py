"""What model servers print, as lines."""

import pytest

from genkan.model_servers.log_lines import MAX_LINE_BYTES, LogLines

TEXT = (
    "loading\nprogress 10%\rprogress 20%\r\n\n\x1b[32mINFO\x1b[0m w\u00f6rd sk-secret-key sk-secret-key\nno end"
).encode()
LINES = ["loading", "progress 10%", "progress 20%", "INFO w\u00f6rd *** ***", "no end"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_whatever_the_pieces_the_lines_are_the_same(size: int) -> None:
    lines = LogLines("sk-secret-key")
    found = [line for at in range(0, len(TEXT), size) for line in lines.feed(TEXT[at : at + size])]
    assert [*found, *lines.end()] == LINES


def test_a_line_without_end_is_cut_and_its_rest_left_out() -> None:
    lines = LogLines(None)
    found = [line for _ in range(100) for line in lines.feed(b"x" * 1000)]
    assert [len(line) for line in found] == [MAX_LINE_BYTES]
    assert [*lines.feed(b"rest\nnext\n"), *lines.end()] == ["next"]


def test_what_is_no_text_is_a_line_too() -> None:
    assert list(LogLines(None).feed(b"\xff\xfe!\n")) == ["\ufffd\ufffd!"]
