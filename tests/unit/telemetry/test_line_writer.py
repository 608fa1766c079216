"""Lines that a thread writes: all of them, in order, and nobody waits for it."""

import pytest
from log_pipe import Pipe

from genkan.telemetry import line_writer
from genkan.telemetry.line_writer import LineWriter, json_line


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


def numbered(number: int) -> bytes:
    return json_line({"number": number})


def test_order_is_kept_and_nothing_is_lost_at_the_end(pipe: Pipe) -> None:
    writer = LineWriter(pipe.write)
    for number in range(5000):
        writer.add(numbered(number))
    writer.close()
    assert [line["number"] for line in pipe.lines] == list(range(5000))
    assert len(pipe.written) < 100  # gathered


def test_a_line_that_comes_after_the_end_is_written_as_well(pipe: Pipe) -> None:
    writer = LineWriter(pipe.write)
    writer.close()
    for number in range(3):
        writer.add(numbered(number))
        writer.close()
        assert [line["number"] for line in pipe.lines] == list(range(number + 1))


def stuck(pipe: Pipe) -> LineWriter:
    """A writer whose thread waits for the pipe, with a first line."""
    pipe.open.clear()
    writer = LineWriter(pipe.write)
    writer.add(numbered(0))
    assert pipe.reached.wait(10)
    return writer


def assert_dropped(pipe: Pipe, writer: LineWriter, *, kept: int, dropped: int) -> None:
    pipe.open.set()
    writer.close()
    assert [line["number"] for line in pipe.lines if "number" in line] == list(range(kept))
    assert [line["message"] for line in pipe.lines if "number" not in line] == [f"{dropped} lines were dropped"]


def test_who_adds_never_waits_for_a_pipe_that_is_not_read(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_writer, "MAX_WAITING_LINES", 10)
    writer = stuck(pipe)
    for number in range(1, 16):
        writer.add(numbered(number))
    assert_dropped(pipe, writer, kept=11, dropped=5)


def test_few_long_lines_are_too_many_as_well(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_writer, "MAX_WAITING_BYTES", 3 * len(numbered(1)))
    writer = stuck(pipe)
    for number in range(1, 6):
        writer.add(numbered(number))
    assert_dropped(pipe, writer, kept=4, dropped=2)


def test_room_that_was_written_free_is_used_again(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_writer, "MAX_WAITING_BYTES", len(numbered(1)))
    writer = LineWriter(pipe.write)
    for number in range(3):
        writer.add(numbered(number))
        writer.close()
    assert [line["number"] for line in pipe.lines] == [0, 1, 2]


def test_a_pipe_that_broke_ends_nothing_and_what_it_lost_is_told() -> None:
    pipe = Pipe()

    def broken_once(lines: bytes) -> None:
        if not pipe.reached.is_set():
            pipe.reached.set()
            raise BrokenPipeError
        pipe.write(lines)

    writer = LineWriter(broken_once)
    writer.add(numbered(0))
    assert pipe.reached.wait(10)
    writer.add(numbered(1))
    writer.close()
    assert [line.get("number", line.get("message")) for line in pipe.lines] == [1, "1 lines were dropped"]


class Unprintable:
    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"a": Unprintable(), "b": 1}, b'{"a":"(cannot be written)","b":1}\n'),
        ({"a": "\ud800x"}, b'{"a":"?x"}\n'),
        ({"\ud800": 1}, b'{"?":1}\n'),
        ({"a": {1: 2}}, b'{"a":"(cannot be written)"}\n'),
        ({"a": 1 << 70, "b": [1]}, b'{"a":"(cannot be written)","b":[1]}\n'),
        ({"a": ValueError("x")}, b'{"a":"x"}\n'),
    ],
)
def test_a_line_is_json_whatever_is_in_it(fields: dict[str, object], line: bytes) -> None:
    assert json_line(fields) == line
