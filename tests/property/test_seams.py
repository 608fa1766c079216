"""Answers that break off anywhere and go on elsewhere: the client gets each of them whole, once and in order."""

import asyncio
from collections.abc import Callable
from itertools import groupby, pairwise
from typing import Any

import orjson
import pytest
from byte_servers import MemoryDialer, turns
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from genkan.clock import SystemClock
from genkan.config import OpenAiUpstreamConfig
from genkan.errors import StreamInterrupted, UpstreamBroken
from genkan.upstream.base import Answer
from genkan.upstream.http_client import HttpClient
from genkan.upstream.openai_http import OpenAiUpstream
from genkan.wire.answers import AnswerStream
from genkan.wire.chat import ChatRequest
from genkan.wire.said import Said
from genkan.wire.seam import Diverged, Seam
from genkan.wire.sse import SseDecoder, encode_events

quick = settings(max_examples=150, deadline=None)

#: One part of an answer, a track and its text, as tests know it: ("content", 0), ("reasoning", 0), ("tool", index).
Part = tuple[str, int, str]
LATIN = ["Xin chào", " cộng hòa", "e\u0323\u0302", " the", "a", '"', "\\", "\n", "\u200b", "}"]
OTHERS = ["안녕하세요", "한글 ", "👨‍👩‍👧‍👦", "🇻🇳", "🍣"]
TEXTS = st.lists(st.sampled_from(LATIN + OTHERS), min_size=1, max_size=8).map("".join)
PLAIN = TEXTS.map(lambda text: [("content", 0, text)])
THOUGHT = st.tuples(TEXTS, TEXTS).map(lambda texts: [("reasoning", 0, texts[0]), ("content", 0, texts[1])])
CALLS = st.lists(TEXTS, min_size=1, max_size=3).map(
    lambda texts: [("tool", nth, text) for nth, text in enumerate(texts)]
)
ANSWERS = PLAIN | THOUGHT | CALLS | st.tuples(THOUGHT, CALLS).map(lambda both: both[0] + both[1])
PLACES = st.lists(st.integers(0, 200), max_size=12)


def divided(text: str, places: list[int]) -> list[str]:
    """``text`` in pieces that are not empty, cut at ``places``, counted round and round."""
    ends = sorted({place % len(text) for place in places} - {0})
    return [text[start:end] for start, end in pairwise([0, *ends, len(text)])]


def deltas(part: Part, places: list[int], who: str, *, joined: bool) -> list[dict[str, Any]]:
    """One part of an answer as ``who`` streams it; ``joined`` puts a call's name and its first arguments together."""
    kind, index, text = part
    pieces = divided(text, places)
    if kind == "reasoning":
        return [{"reasoning_content": piece, "reasoning": piece} for piece in pieces]
    if kind == "content":
        return [{"content": piece} for piece in pieces]
    first = pieces.pop(0) if joined else ""
    function = {"name": f"tool{index}", "arguments": first}
    begun = {"index": index, "id": f"call_{who}_{index}", "type": "function", "function": function}
    more = [{"index": index, "function": {"arguments": piece}} for piece in pieces]
    return [{"tool_calls": [call]} for call in (begun, *more)]


def streamed(parts: list[Part], places: list[int], who: str = "first", *, joined: bool = False) -> list[bytes]:
    """The chunks of an answer as ``who`` streams it, cut at ``places``, with its usage at the end."""
    said = [delta for part in parts for delta in deltas(part, places, who, joined=joined)]
    end = "tool_calls" if parts and parts[-1][0] == "tool" else "stop"
    choices = [({"role": "assistant", "content": ""}, None), *((delta, None) for delta in said), ({}, end)]
    head = {"id": f"id-{who}", "object": "chat.completion.chunk", "created": len(who), "model": f"model-{who}"}
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]} for delta, end in choices]
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    return [orjson.dumps(chunk) for chunk in [*chunks, {**head, "choices": [], "usage": usage}]]


def text_part(text: str) -> list[Part]:
    return [("content", 0, text)] if text else []


def put_together(payloads: list[bytes]) -> list[tuple[str, str]]:
    """What a client makes of the chunks: what was said in which field, in order, neighbours of one field as one.

    Whose ids the calls have is left out, and that they have one is not.
    """
    told: list[tuple[str, str]] = []
    for chunk in map(orjson.loads, payloads):
        for choice in chunk["choices"]:
            delta = choice["delta"]
            told += [(name, text) for name, text in delta.items() if type(text) is str and text]
            for call in delta.get("tool_calls", ()):
                fields = {"id": "id" if "id" in call else "", **call["function"]}
                told += [(f"{call['index']} {name}", text) for name, text in fields.items() if text]
            told += [("end", choice["finish_reason"])] if choice["finish_reason"] else []
    if any(name.startswith("reasoning") for name, _ in told):  # both names have it
        both = [[text for name, text in told if name == field] for field in ("reasoning_content", "reasoning")]
        assert both[0] == both[1]
        told = [(name, text) for name, text in told if name != "reasoning"]
    return [(name, "".join(text for _, text in group)) for name, group in groupby(told, key=lambda each: each[0])]


def broken_off(payloads: list[bytes], cut: int) -> tuple[list[bytes], Said]:
    """What had passed, and been said, when a stream broke off after ``cut`` chunks; it has begun, and has not ended."""
    follower = AnswerStream(choices=1, show_usage=True)
    passed = [data for payload in payloads[: 2 + cut % (len(payloads) - 3)] for data in follower.take([payload])]
    assert follower.said is not None
    return passed, follower.said


def gone_on(seam: Seam, payloads: list[bytes]) -> list[bytes]:
    follower = AnswerStream(choices=1, show_usage=True)
    passed = [data for payload in payloads for data in seam.take(follower.take([payload]))]
    seam.end()
    return passed


def told_once(payloads: list[bytes]) -> None:
    """The role is given once, and every chunk is of the stream that the client knows."""
    chunks = [orjson.loads(data) for data in payloads]
    assert {(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks} == {("id-first", 5, "model-first")}
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert [delta["role"] for delta in deltas if "role" in delta] == ["assistant"]


@quick
@given(ANSWERS, PLACES, PLACES, st.integers(0, 99), st.booleans(), st.booleans())
def test_a_replay_divided_in_any_way_completes_what_was_cut_anywhere(
    parts: list[Part], places: list[int], others: list[int], cut: int, joined: bool, also_joined: bool
) -> None:
    whole = streamed(parts, places, joined=joined)
    passed, said = broken_off(whole, cut)
    seam = Seam(said, "replay", mark={"model": "m"})
    passed += gone_on(seam, streamed(parts, others, "other", joined=also_joined))
    assert put_together(passed) == put_together(whole)
    told_once(passed)
    assert orjson.loads(passed[-1])["usage"]["total_tokens"] == 12
    assert [orjson.loads(data).get("genkan") for data in passed].count({"resumed": {"model": "m"}}) == 1


@quick
@given(ANSWERS, PLACES, PLACES, PLACES, st.integers(0, 99), st.integers(0, 99))
def test_an_answer_that_breaks_off_twice_is_completed_all_the_same(
    parts: list[Part], places: list[int], others: list[int], more: list[int], cut: int, next_cut: int
) -> None:
    whole = streamed(parts, places)
    passed, said = broken_off(whole, cut)
    seam = Seam(said, "replay")
    came, other = broken_off(streamed(parts, others, "second"), next_cut)
    passed += seam.take(came)
    passed += gone_on(Seam(seam.now(other), "replay"), streamed(parts, more, "third"))
    assert put_together(passed) == put_together(whole)
    told_once(passed)


@quick
@given(PLAIN, PLACES, PLACES, st.integers(0, 99), st.booleans())
def test_a_continuation_is_joined_where_the_text_broke_off(
    parts: list[Part], places: list[int], others: list[int], cut: int, echoes: bool
) -> None:
    whole = streamed(parts, places)
    passed, said = broken_off(whole, cut)
    text = parts[0][2]
    assert said.is_text
    assert text.startswith(said.text)
    new = text.removeprefix(said.open_text)
    assume(echoes or (said.open_text and not new.startswith(said.open_text)))  # which is not asked for, or not believed
    rest = text_part(text if echoes else new)
    passed += gone_on(Seam(said, "prefill", echoes=echoes), streamed(rest, others, "other"))
    assert put_together(passed) == put_together(whole)
    told_once(passed)


@quick
@given(ANSWERS, PLACES, PLACES, st.integers(0, 99), st.data())
def test_any_other_character_in_what_was_said_is_another_answer(
    parts: list[Part], places: list[int], others: list[int], cut: int, data: st.DataObject
) -> None:
    _, said = broken_off(streamed(parts, places), cut)
    lengths = [len(run.decode()) for track, run in said.runs if track[-1] not in ("id", "name")]
    assume(lengths)
    nth = data.draw(st.integers(0, len(lengths) - 1))
    place = data.draw(st.integers(0, lengths[nth] - 1))
    kind, index, text = parts[nth]
    character = data.draw(st.characters(exclude_characters=text[place], codec="utf-8"))
    changed = [*parts[:nth], (kind, index, text[:place] + character + text[place + 1 :]), *parts[nth + 1 :]]
    seam = Seam(said, "replay")
    passed: list[bytes] = []
    follower = AnswerStream(choices=1, show_usage=True)
    for payload in streamed(changed, others, "other"):
        try:
            passed += seam.take(follower.take([payload]))
        except Diverged:
            break
    else:
        raise AssertionError("another answer was taken for the same")
    assert passed == []
    assert not seam.joined


@quick
@given(ANSWERS, PLACES, PLACES, st.integers(0, 99), st.integers(0, 99))
def test_a_replay_that_ends_too_soon_is_another_answer(
    parts: list[Part], places: list[int], others: list[int], cut: int, shorter: int
) -> None:
    _, said = broken_off(streamed(parts, places), cut)
    seam = Seam(said, "replay")
    came, other = broken_off(streamed(parts, others, "other"), shorter)
    assume(other.size_bytes < said.size_bytes)
    assert seam.take(came) == []
    with pytest.raises(Diverged):
        seam.end()
    assert seam.now(other) is said


# --- At every byte ---

PARTS: list[Part] = [("reasoning", 0, "Hm, 안녕? "), ("content", 0, 'Chào "bạn" 👨‍👩‍👧'), ("tool", 0, '{"ở": "Huế"}')]
TEXT: list[Part] = [("content", 0, 'Chào "bạn" 👨‍👩‍👧\nđây')]
EVERY = list(range(0, 99, 2))
CANONICAL = {
    "all": (PARTS, encode_events(streamed(PARTS, EVERY)) + b"data: [DONE]\n\n"),
    "text": (TEXT, encode_events(streamed(TEXT, EVERY)) + b"data: [DONE]\n\n"),
}
#: How another server answers the request that was cut, once so much was said.
GoesOn = Callable[[list[Part], Said], tuple[Seam, list[bytes]]]


def replay(parts: list[Part], said: Said) -> tuple[Seam, list[bytes]]:
    return Seam(said, "replay"), streamed(parts, [1, 3, 4], "other", joined=True)


def prefill(parts: list[Part], said: Said) -> tuple[Seam, list[bytes]]:
    return Seam(said, "prefill"), streamed(text_part(parts[0][2].removeprefix(said.text)), [1], "other")


ways = pytest.mark.parametrize(("name", "goes_on"), [("all", replay), ("text", replay), ("text", prefill)])


@ways
def test_at_every_byte_of_an_event_stream_nothing_is_lost_doubled_or_reordered(name: str, goes_on: GoesOn) -> None:
    parts, stream = CANONICAL[name]
    whole = put_together(streamed(parts, EVERY))
    resumed = 0
    for cut in range(len(stream) + 1):
        follower = AnswerStream(choices=1, show_usage=True)
        passed = follower.take([data for data in SseDecoder().feed(stream[:cut]) if data != b"[DONE]"])
        if follower.started and not follower.complete:
            assert follower.said is not None
            passed += gone_on(*goes_on(parts, follower.said))
            resumed += 1
        if follower.started:
            assert put_together(passed) == whole
            told_once(passed)
    assert resumed > len(stream) // 2


class Asking:
    """An upstream of kind ``openai`` whose server has no socket."""

    def __init__(self) -> None:
        config = OpenAiUpstreamConfig.model_validate({"name": "up", "kind": "openai", "base_url": "http://up/v1"})
        self.upstream = OpenAiUpstream(config, None, SystemClock())
        self.dialer = MemoryDialer()
        self.upstream.client = HttpClient(self.dialer, connect_s=1, keep_alive=1, keep_alive_s=1)

    async def answer_cut_after(self, stream: bytes, cut: int) -> tuple[list[bytes], Said | None]:
        """What came of an answer whose connection breaks after ``cut`` bytes of its body, and what was said."""
        asking = asyncio.create_task(self.upstream.respond(REQUEST, "m", total_s=9))
        await turns(2)
        server = self.dialer.made[-1]
        server.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(stream) + 1, stream[:cut]))
        await turns(1)
        server.reset()
        passed: list[bytes] = []
        answer = None
        try:
            answer = await asking
            assert answer.batches is not None
            async for batch in answer.batches:
                passed += batch
        except StreamInterrupted:
            assert answer is not None
            assert self.upstream.bulkhead.in_use == 0  # already now, before the answer is closed
        except UpstreamBroken:
            assert answer is None
        return passed, await self._said(answer)

    async def _said(self, answer: Answer | None) -> Said | None:
        if answer is None:
            return None
        await answer.aclose()
        return answer.said


REQUEST = ChatRequest.from_object(
    {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
)


@ways
def test_at_every_byte_of_a_response_nothing_is_lost_doubled_or_reordered(name: str, goes_on: GoesOn) -> None:
    parts, stream = CANONICAL[name]
    whole = put_together(streamed(parts, EVERY))

    async def sweep() -> int:
        asking, resumed = Asking(), 0
        for cut in range(len(stream) + 1):
            passed, said = await asking.answer_cut_after(stream, cut)
            if said is not None and said.is_known:
                passed += gone_on(*goes_on(parts, said))
                resumed += 1
            assert not passed or put_together(passed) == whole
        return resumed

    assert asyncio.run(sweep()) > len(stream) // 2
