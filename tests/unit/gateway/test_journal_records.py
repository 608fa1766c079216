"""The journal's lines: what is written is read, and what is damaged is nothing but missing."""

import zlib

import orjson
import pytest
from ledgers import ACTUAL, PLAN, RESERVED, admission, settlement

from genkan.gateway.journal_records import Contents, Records, Unfinished, contents_of, first_line
from genkan.store.accounts import Amounts, Settlement


def read(lines: bytes, seed: int = 0) -> Contents:
    """What a file of these lines is found to say."""
    return contents_of(first_line(seed) + lines)


@pytest.fixture
def records() -> Records:
    return Records()


def test_a_settlement_is_read_as_it_was_written(records: Records) -> None:
    row = '{"id":"r1", "tenant":"\\"ä€\\n", "t":1.10}'.encode()  # spaces and figures as they are, not as orjson would
    written = Settlement("r1", PLAN, RESERVED, Amounts(1, 2, 3, 10**18), row, was_admitted=False)
    assert read(records.settled(written, 12.5, has_begun=False)).unfinished == [Unfinished(written, 12.5, False)]


def test_a_settlement_stands_whether_it_had_begun_or_not(records: Records) -> None:
    begun = records.begun(admission("r1"), True, 1, "m@u", 1.0)
    short, whole = (records.settled(settlement("r1"), 2.0, has_begun=has_begun) for has_begun in (True, False))
    assert len(short) < len(whole) / 1.5
    for data in (begun + short, begun + whole, whole):
        assert read(data).unfinished == [Unfinished(settlement("r1"), 2.0, False)]


def test_if_only_its_beginning_is_damaged_the_row_stands_and_no_limit_is_touched(records: Records) -> None:
    begun = bytearray(records.begun(admission("r1"), True, 1, "m@u", 1.0))
    begun[20] ^= 1
    contents = read(bytes(begun) + records.settled(settlement("r1"), 2.0, has_begun=True))
    row_alone = Settlement("r1", (), Amounts(0), ACTUAL, settlement("r1").row, was_admitted=True)
    assert contents == Contents([Unfinished(row_alone, 2.0, False)], damaged=1)


def test_what_began_and_did_not_end_is_lost_with_all_its_attempts(records: Records) -> None:
    data = records.begun(admission("r1"), True, 1, "m@u", 1.0) + records.attempt("r1", 2, "m@v", 3.0)
    (found,) = read(data).unfinished
    assert (found.is_lost, found.unix_s) == (True, 3.0)
    lost = found.settlement
    assert (lost.plan, lost.reserved, lost.actual, lost.was_admitted) == (PLAN, RESERVED, RESERVED, True)
    row = orjson.loads(lost.row)
    assert (row["id"], row["state"], row["usage"], row["cost_nano_usd"]) == ("r1", "lost", None, None)
    attempts = [(each["n"], each["deployment"], each["state"], each["cost_nano_usd"]) for each in row["attempts"]]
    assert attempts == [(1, "m@u", "lost", None), (2, "m@v", "lost", None)]


def test_what_was_not_admitted_is_lost_as_such_and_without_a_draft_has_no_row(records: Records) -> None:
    asked = admission("r1")
    asked.draft = b""
    (found,) = read(records.begun(asked, False, 1, "m@u", 1.0)).unfinished
    assert (found.settlement.was_admitted, found.settlement.row) == (False, b"")


def test_lines_of_another_file_are_none_of_this_one(records: Records) -> None:
    own, other = (records.begun(admission(name), True, 1, "m@u", 1.0, seed=n) for n, name in enumerate(("a", "b"), 7))
    data = own + other
    assert [each.settlement.request_id for each in read(data, 7).unfinished] == ["a"]
    assert [each.settlement.request_id for each in read(data, 8).unfinished] == ["b"]
    assert read(data, 9) == Contents([], 0)


@pytest.mark.parametrize(
    "first", [b"", b"genkan journal 2", b"genkan journal 1 00000000\n", b"genkan journal 2 0000000x\n"]
)
def test_of_a_file_that_does_not_begin_as_ours_do_nothing_is_read(records: Records, first: bytes) -> None:
    line = records.settled(settlement("a"), 1.0, has_begun=False)
    assert contents_of(first + line) == Contents([], damaged=1)
    assert contents_of(b"") == Contents([], damaged=0)  # its writer has not begun


def test_whether_it_was_admitted_is_for_the_end_to_say(records: Records) -> None:
    begun = records.begun(admission("r1"), True, 1, "m@u", 1.0)
    end = records.settled(settlement("r1", was_admitted=False), 2.0, has_begun=True)
    assert read(begun + end).unfinished == [Unfinished(settlement("r1", was_admitted=False), 2.0, False)]


def test_what_is_done_is_not_left(records: Records) -> None:
    data = b"".join(records.settled(settlement(each), 1.0, has_begun=False) for each in "abc") + records.done(
        ["a", "c"]
    )
    assert [each.settlement.request_id for each in read(data).unfinished] == ["b"]


def test_a_last_line_torn_at_any_byte_is_as_if_never_written(records: Records) -> None:
    first, last = (
        records.settled(settlement("r1"), 1.0, has_begun=False),
        records.settled(settlement("r2"), 2.0, has_begun=False),
    )
    for length in range(len(last) - 1):
        contents = read(first + last[:length])
        assert [each.settlement.request_id for each in contents.unfinished] == ["r1"], length
        assert contents.damaged == 0
    assert len(read(first + last[:-1]).unfinished) == 2  # all of it but the newline


def test_a_line_with_any_byte_damaged_costs_that_line_alone_and_is_counted(records: Records) -> None:
    lines = [records.settled(settlement(each), 1.0, has_begun=False) for each in "abc"]
    for place in range(len(lines[1])):
        damaged = bytearray(lines[1])
        damaged[place] ^= 0x04  # never makes a newline of the bytes of JSON, nor of a digit
        contents = read(lines[0] + bytes(damaged) + lines[2])
        found = [each.settlement.request_id for each in contents.unfinished]
        if place == len(damaged) - 1:  # two lines have become one
            assert (found, contents.damaged) == (["a"], 0)  # as a torn end would be
        else:
            assert (found, contents.damaged) == (["a", "c"], 1), place


@pytest.mark.parametrize(
    "record",
    [
        b"[]",
        b"{}",
        b'{"is":"done"}',
        b'{"is":"done","ids":null}',
        b'{"is":"settled","id":"x","t":1.0}',
        b'{"is":"settled","id":"x","t":1.0,"actual":[1,2,3,4,5]}\t{}',
        b'{"is":"begun","id":"x","t":"?","n":1,"deployment":"m"}',
        b'{"is":"begun","id":"x","t":1.0,"n":1,"deployment":"m","reserved":[1]}\t{',
        b'{"is":"attempt","id":"x","t":1.0,"n":2,"deployment":"m@u"}',
        b'{"is":"of a later version","id":"x","t":1.0}',
    ],
)
def test_a_sound_line_that_makes_no_sense_is_counted_and_harms_no_other(records: Records, record: bytes) -> None:
    line = b"%08x %b\n" % (zlib.crc32(record), record)
    contents = read(
        records.settled(settlement("a"), 1.0, has_begun=False)
        + line
        + records.settled(settlement("b"), 1.0, has_begun=False)
    )
    assert [each.settlement.request_id for each in contents.unfinished] == ["a", "b"]
    assert contents.damaged == 1


def test_plans_made_anew_for_each_request_are_not_all_remembered(records: Records) -> None:
    for n in range(3000):
        records.settled(Settlement(f"r{n}", (PLAN[n % 3],), RESERVED, ACTUAL, b""), 1.0, has_begun=False)
    assert len(records._plans) <= 1024
