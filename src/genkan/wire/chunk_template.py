"""Knows a stream's next chunk by the one before it. No I/O.

Nearly all chunks of an answer are the same but for their text. So once one was parsed, the bytes before its text and
those after it say all about the next that has them too, if only text stands between: no quote and no backslash, so
that it cannot end earlier, and nothing but characters that JSON lets stand in a string. That is found out in a third
of the time of a parse. Streams whose chunks differ in more (a number, a random field) are not tried for long.
"""

_MISSES = 8


class ChunkTemplate:
    """The latest chunk that was learnt, with a hole where its text was."""

    __slots__ = ("_after", "_before", "_kept", "_misses", "_shortest")

    def __init__(self) -> None:
        self._kept: bytearray | None = None
        self._misses = 0  # chunks learnt in a row that no other was like
        self.forget()

    def text_bytes(self, data: bytes) -> int:
        """How many bytes of text stand in ``data`` if it is the chunk that was learnt, with another text; else 0.

        They are put at the end of what was given to ``learn``.
        """
        before, after = self._before, self._after
        if not (data.startswith(before) and data.endswith(after)) or len(data) <= self._shortest:
            return 0
        text = data[len(before) : -len(after)]
        if b'"' in text or b"\\" in text:
            return 0
        try:
            is_plain = text.decode().isprintable()
        except UnicodeDecodeError:
            return 0
        if not is_plain:
            return 0
        self._misses = 0
        if (kept := self._kept) is not None:
            kept += text
        return len(text)

    def learn(self, data: bytes, text: str, kept: bytearray | None = None) -> None:
        """``data`` is a chunk of the answer that says ``text`` and nothing else. More of the same goes to ``kept``."""
        if self._misses >= _MISSES:
            return
        self._misses += 1
        quoted = b'"%b"' % text.encode()
        before, found, after = data.partition(quoted)
        # Written otherwise than as it is, or there twice, it is not known where it stands.
        if found and quoted not in after and before.rstrip().endswith(b'content":'):
            self._before, self._after = before + b'"', b'"' + after
            self._shortest = len(self._before) + len(self._after)
            self._kept = kept

    def forget(self) -> None:
        """Nothing that comes is like what came before."""
        self._before = self._after = b""
        self._kept = None
        self._shortest = 1 << 62
