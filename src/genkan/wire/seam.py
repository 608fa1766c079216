"""Where one stream goes on with what another began: its chunks become the client's own, from the seam on. No I/O.

Theory. The client has what was said up to the break, as runs of bytes (wire/said.py). A stream that says it all again
is followed in silence, byte for byte, however it is divided into chunks; the chunk in which the last byte is found is
cut there. Both are UTF-8 and both began at the beginning of a character, so where they are equal so are the edges of
their characters, and the cut falls on one. Whatever differs, comes in another order, or ends sooner, is another answer:
`Diverged`, and nothing of it has been passed on.

A prefill is given without the whitespace at the text's end, which many chat templates cut off and some servers refuse:
so it has to say that again, or the client would have it twice, or not at all.

From the seam on a chunk is the other stream's in all but whose it is: the client has seen an identity, a role, the ids
of calls, and a name for reasoning, and keeps them.
"""

from typing import Any, Literal

import orjson

from genkan.errors import GenkanError
from genkan.wire.begun_anew import BegunAnew, Doubt
from genkan.wire.pieces import REASONING_NAMES, Piece, UnknownPiece, pieces_of
from genkan.wire.said import IDENTITY, Said

#: Fields of a choice that tell of all its text, token by token.
_OF_ALL_TEXT = ("logprobs", "token_ids")
_BEGINNINGS = (("id",), ("function", "name"), ("custom", "name"))


class Diverged(GenkanError):
    """The other answer is not the same, or cannot be joined to what was said. ``after_chars`` were equal."""

    def __init__(self, why: str, after_chars: int) -> None:
        super().__init__(f"{why} after {after_chars} characters")
        self.after_chars = after_chars


class Seam:
    """Takes the chunks of another stream, as its AnswerStream passes them, and gives those that the client gets.

    ``joined`` is True as soon as all that was said has been found again: what comes then is new to the client.

    Cost: 3 µs a chunk, most of it JSON.
    """

    __slots__ = (
        "_at", "_calls", "_doubt", "_has_role", "_held", "_mark", "_nth", "_repeats", "_said", "_tail_bytes", "joined",
    )  # fmt: skip

    def __init__(
        self,
        said: Said,
        way: Literal["prompt", "prefill", "replay"],
        *,
        mark: dict[str, Any] | None = None,
        echoes: bool = False,
    ) -> None:
        """A ``replay``, and any other way that ``echoes``, says first what was said; the others only what is new.

        A ``prefill`` goes on from ``said.open_text``, after which it says what is left of the text.

        ``mark`` goes with the first chunk given, as ``{"genkan": {"resumed": mark}}``. ``said.is_known`` is True.
        """
        self._said = said
        self._mark = mark
        self._repeats = echoes or way == "replay"
        self._nth = 0  # the run that is to be found next, and
        self._at = 0  # how many of its bytes have been
        self._calls: set[int] = set() if self._repeats else set(said.calls)
        self._has_role = said.has_role
        self._tail_bytes = 0  # of the text's end that come again
        self._doubt: Doubt | None = None  # whether it goes on from what was said; as long as there is,
        self._held: list[dict[str, Any]] = []  # chunks are held back
        if way == "prefill" and not echoes:
            self._go_on_from(said)
        self.joined = not (self._repeats and said.runs) and not self._tail_bytes

    def take(self, payloads: list[bytes]) -> list[bytes]:
        """The payloads to pass on, of those that came. Raises Diverged, before anything was passed on."""
        passed: list[bytes] = []
        for data in payloads:
            chunk = orjson.loads(data)
            if self._doubt is not None:
                self._weigh(self._doubt, chunk)
            if self._is_new(chunk):
                self._held.append(chunk)
            if self._held and self._doubt is None:
                passed += map(self._own, self._held)
                self._held = []
        return passed

    def end(self) -> None:
        """The other stream is over. Raises Diverged if it has not said as much."""
        if not self.joined:
            raise self._diverged("the other answer ended")

    def now(self, other: Said) -> Said:
        """What the client has now that the other stream has said ``other``. Cost: one copy."""
        if not self.joined:
            return self._said
        if self._repeats:
            return self._said.replayed(other)
        return self._said.extended(other, again_bytes=self._tail_bytes)

    # whether it goes on from there

    def _go_on_from(self, said: Said) -> None:
        text = said.text.encode()
        self._at = len(said.open_text.encode())  # of the only run
        self._tail_bytes = len(text) - self._at
        self._doubt = Doubt(text)

    def _weigh(self, doubt: Doubt, chunk: dict[str, Any]) -> None:
        """Raises Diverged."""
        try:
            if doubt.is_over(chunk):
                self._doubt = None
        except BegunAnew:
            raise self._diverged("the other answer does not go on, but begins anew") from None

    # what is new

    def _is_new(self, chunk: dict[str, Any]) -> bool:
        """Whether there is something new in it, once what the client has was taken out of it."""
        choices = chunk.get("choices")
        if not choices:
            return self.joined
        chunk["choices"] = kept = [choice for choice in choices if self._is_new_choice(choice)]
        return bool(kept)

    def _is_new_choice(self, choice: dict[str, Any]) -> bool:
        was_joined = self.joined
        if not was_joined:
            self._find(choice)
            if not self.joined:
                return False
        delta = choice.get("delta")
        has_lost = delta is not None and self._take_marks(delta)
        return (was_joined and not has_lost) or _says_something(choice)

    def _find(self, choice: dict[str, Any]) -> None:
        """Take out of it what has been said already. Raises Diverged."""
        try:
            pieces = pieces_of(choice, self._calls)
        except UnknownPiece:
            raise self._diverged("the other answer says something else") from None
        found, rest = 0, ""
        for piece in pieces:
            if self.joined:
                break
            found, rest = found + 1, self._rest_of(piece)
            for holder, key in piece.places:
                _put(holder, key, rest)
        if not self.joined and choice.get("finish_reason"):
            raise self._diverged("the other answer ended")
        if found:
            self._divide(choice, is_cut=bool(rest) or found < len(pieces))

    def _rest_of(self, piece: Piece) -> str:
        """What of it is new. Raises Diverged."""
        track, run = self._said.runs[self._nth]
        text = piece.text.encode()
        left = len(run) - self._at
        if piece.track != track or not run.startswith(text[:left], self._at):
            raise self._diverged("the other answer is different", text if piece.track == track else b"")
        self._at += min(len(text), left)
        if self._at == len(run):
            self._nth, self._at = self._nth + 1, 0
            self.joined = self._nth == len(self._said.runs)
        if len(text) > left and not self.joined:
            raise self._diverged("the other answer is different")
        return text[left:].decode()

    def _divide(self, choice: dict[str, Any], *, is_cut: bool) -> None:
        """What tells of all its text cannot tell of the rest alone. Raises Diverged."""
        for name in _OF_ALL_TEXT:
            if choice.get(name):
                if is_cut:
                    raise self._diverged(f"the seam would divide the other answer's {name}")
                choice[name] = None

    def _diverged(self, why: str, text: bytes = b"") -> Diverged:
        """``text`` came where more of the run was due."""
        runs = self._said.runs
        found = [run for track, run in runs[: self._nth] if track[-1] != "id"]
        if self._nth < len(runs):
            run, at = runs[self._nth][1], self._at
            pairs = enumerate(zip(run[at:], text, strict=False))
            found.append(run[: at + next((nth for nth, (due, came) in pairs if due != came), 0)])
        return Diverged(why, sum(len(each.decode(errors="ignore")) for each in found))

    # whose it is

    def _take_marks(self, delta: dict[str, Any]) -> bool:
        """Take out of it the marks that the client has been given. Returns whether there were any."""
        has_lost = False
        if delta.get("role"):
            if has_lost := self._has_role:
                del delta["role"]
            self._has_role = True
        if (names := self._said.reasoning_names) and (text := _pop_reasoning(delta)):
            delta.update(dict.fromkeys(names, text))
        if type(calls := delta.get("tool_calls")) is list and calls:
            kept = [call for call in calls if not self._is_begun(call) or _without_marks(call)]
            has_lost = has_lost or len(kept) < len(calls)
            delta["tool_calls"] = kept
            if not kept:
                del delta["tool_calls"]
        return has_lost

    def _is_begun(self, call: Any) -> bool:
        """Whether the client has its beginning. Some servers give several calls the same number, each of them whole."""
        if type(call) is not dict or (index := call.get("index")) not in self._said.calls:
            return False
        is_whole = any(track[:2] == ("tool", index) and track[2:] not in _BEGINNINGS for track, _ in self._said.runs)
        return not (is_whole and any(function.get("name") for function in _functions(call)))

    def _own(self, chunk: dict[str, Any]) -> bytes:
        """It as a chunk of the client's own stream. Raises Diverged."""
        head = self._said.head
        for name in IDENTITY:
            if name in head:
                chunk[name] = head[name]
            else:
                chunk.pop(name, None)
        if self._mark is not None:
            chunk["genkan"], self._mark = {"resumed": self._mark}, None
        try:
            return orjson.dumps(chunk)
        except TypeError:
            raise self._diverged("the other answer is nested too deeply") from None


def with_usage(payload: bytes, usage: dict[str, Any]) -> bytes:
    """A chunk with ``usage`` in the place of its own, if it has one. Cost: one JSON parse."""
    chunk = orjson.loads(payload)
    return orjson.dumps({**chunk, "usage": usage}) if chunk.get("usage") else payload


def _put(holder: dict[str, Any], key: str, rest: str) -> None:
    if rest or key == "text":  # without which a completion's choice is none
        holder[key] = rest
    else:
        del holder[key]


def _pop_reasoning(delta: dict[str, Any]) -> str:
    texts = [delta.pop(name, None) for name in REASONING_NAMES]
    return next(filter(None, texts), "")


def _functions(call: dict[str, Any]) -> list[dict[str, Any]]:
    return [function for kind in ("function", "custom") if type(function := call.get(kind)) is dict]


def _without_marks(call: dict[str, Any]) -> bool:
    """Without its id: clients would put two together. Returns whether it still says something."""
    call.pop("id", None)
    call.pop("type", None)
    return any(any(function.values()) for function in _functions(call))


def _says_something(choice: dict[str, Any]) -> bool:
    return bool(choice.get("finish_reason") or choice.get("text") or any((choice.get("delta") or {}).values()))
