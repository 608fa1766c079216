"""Text and token ids: a model's tokenizer and chat template, from a GGUF file or a folder of Hugging Face's.

Ids become text here by the bytes that each stands for, put together and read as UTF-8. That is what the tokenizers
library's decoders do to every text it encodes, and unlike them it is the same for a stream as for the whole, whatever
ids a model draws, and the same as what a grammar sees.
"""

import codecs
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from genkan.errors import InvalidRequest
from genkan.upstream import gguf_tokenizer, hf_tokenizer
from genkan.upstream.chat_template import ChatTemplate, local_time
from genkan.upstream.vocabulary import Vocabulary

_SLICE_CHARS = 1 << 15
_SLICE_SLACK = 64  # ids that cutting a text in two may add, generously: no token is longer than 81 characters
_BEFORE = ("\n", "0", ")")  # with one of these no text's beginning is merged
_NO_IDS: frozenset[int] = frozenset()


class TextTokenizer:
    """The tokenizer and chat template of one model. Immutable and safe to share between threads.

    ``stop_ids`` end an answer, ``eos_id`` among them; ``special_ids`` add nothing to its text. ``has_template`` is
    False for a model that was never taught to chat. ``template_takes_tools`` says that the template can spell tools
    out itself. ``template_source`` is the usual template, '' where there is none.
    """

    def __init__(self, metadata: Mapping[str, Any], *, now: Callable[[], datetime] = local_time) -> None:
        """As `of_gguf`."""
        self._take(gguf_tokenizer.vocabulary_of(metadata), now)

    @classmethod
    def of_gguf(cls, metadata: Mapping[str, Any], *, now: Callable[[], datetime] = local_time) -> Self:
        """The tokenizer of the GGUF file that has these key-values. ``now`` is the time that a template may ask for.

        Raises ModelFileError for a tokenizer that is not known, a damaged one, or a template that cannot be read.
        """
        return cls(metadata, now=now)

    @classmethod
    def of_folder(cls, folder: Path, *, now: Callable[[], datetime] = local_time) -> Self:
        """The tokenizer of a model's folder with its ``tokenizer.json``. Raises ModelFileError, naming the file."""
        made = cls.__new__(cls)
        made._take(hf_tokenizer.vocabulary_of(folder), now)
        return made

    def _take(self, vocabulary: Vocabulary, now: Callable[[], datetime]) -> None:
        self._vocabulary = vocabulary
        self._tokenizer = vocabulary.tokenizer
        self._pieces = _without(vocabulary.texts, vocabulary.special_ids)
        self._template = ChatTemplate(vocabulary.templates, vocabulary.named_tokens, now)
        self.vocab_size = len(vocabulary.texts)
        self.stop_ids = vocabulary.stop_ids
        self.eos_id = vocabulary.eos_id
        self.special_ids = vocabulary.special_ids
        self.has_template = bool(vocabulary.templates)
        self.template_takes_tools = self._template.takes_tools
        self.template_source = self._template.source

    def token_bytes(self) -> list[bytes]:
        """What each id adds to a model's text, ``b""`` for a special one; part of a character for some. Read-only."""
        return self._pieces

    def token_bytes_of(self, token_id: int) -> bytes:
        """The bytes of one token on its own: of a special one, its spelling. ``b""`` for an id without a token."""
        texts = self._vocabulary.texts
        return texts[token_id] if 0 <= token_id < len(texts) else b""

    def token_text(self, token_id: int) -> str:
        """``token_bytes_of`` as text, with U+FFFD for what is part of a character."""
        return self.token_bytes_of(token_id).decode("utf-8", "replace")

    def token_id(self, text: str) -> int | None:
        """The id of the token that is spelt so in the vocabulary, such as ``<|im_end|>``."""
        found: int | None = self._tokenizer.token_to_id(text)
        return found

    def encode(self, text: str, *, add_bos: bool = True) -> list[int]:
        """The ids of ``text``; the spelling of a special token becomes that token. Cost: about 1 µs a character.

        With ``add_bos``, the ids that the model wants around every text stand around it: mostly a BOS, or nothing. A
        text that spells its BOS out gets no second one.
        """
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        if not add_bos:
            return ids
        before, after = list(self._vocabulary.before), list(self._vocabulary.after)
        return ids + after if before and ids[: len(before)] == before else before + ids + after

    def encode_up_to(self, text: str, limit: int, *, add_bos: bool = True) -> list[int]:
        """The ids of ``text``; of one far beyond ``limit``, ``limit + 1`` ids that stand for a beginning of it.

        Bounds the time that a text far beyond the limit can take: megabytes take seconds to encode whole. Such a text
        is encoded in slices, so its ids are not those of a whole text where it was cut: they tell that it is too long.
        """
        if len(text) > 2 * _SLICE_CHARS:
            beginning: list[int] = []
            for start in range(0, len(text), _SLICE_CHARS):
                beginning += self._tokenizer.encode(text[start : start + _SLICE_CHARS], add_special_tokens=False).ids
                if len(beginning) > limit + _SLICE_SLACK * (1 + start // _SLICE_CHARS):
                    return beginning[: limit + 1]
        return self.encode(text, add_bos=add_bos)

    def encode_after(
        self, ids: Sequence[int], prompt: str | None, text: str, limit: int, *, exact: bool = False
    ) -> list[int]:
        """The ids of ``text`` as it goes on from a prompt that has the ``ids``; ``prompt`` is what they were made of.

        They are those of the whole, where that begins with ``ids``; else those of ``text`` for itself, without what a
        tokenizer puts around a text. ``exact``: never with a first space that the text does not have. Of a text far
        beyond ``limit``, ids as by `encode_up_to`. Cost: about 1 µs for each character of both.
        """
        before = self._vocabulary.before
        if prompt is None:
            has_before = tuple(ids[: len(before)]) == before
            stream = self.text_stream(self.special_ids)
            prompt = "".join([*map(stream.push, ids[len(before) if has_before else 0 :]), stream.flush()])
        if not (exact and self._vocabulary.drops_first_space):
            whole, begun = self.encode_up_to(prompt + text, len(ids) + limit, add_bos=False), list(ids)
            for each in (whole, [*before, *whole]):
                if each[: len(begun)] == begun:
                    return each[len(begun) :]
        return self._encode_inside(text, limit)

    def _encode_inside(self, text: str, limit: int) -> list[int]:
        """The ids of ``text`` where other text stands before it, to which no first space is added."""
        for before in _BEFORE if self._vocabulary.drops_first_space else ():
            ids = self.encode(before, add_bos=False)
            both = self.encode_up_to(before + text, len(ids) + limit, add_bos=False)
            if both[: len(ids)] == ids:
                return both[len(ids) :]
        return self.encode_up_to(text, limit, add_bos=False)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids`` without special tokens; bytes that are no UTF-8 become U+FFFD.

        ``ids`` are a whole text: a space that its tokenizer puts first is not part of it.
        """
        stream = self.text_stream()
        return "".join([*map(stream.push, ids), stream.flush()])

    def text_stream(self, show: frozenset[int] = _NO_IDS, *, continues: bool = False) -> "TextStream":
        """A decoder for one sequence. Special ids in ``show`` appear in the text as they are spelt.

        ``continues`` says that the sequence goes on from a text before it, a prompt that is to be completed: then its
        first space is its own.
        """
        shown = {token_id: self.token_bytes_of(token_id) for token_id in show}
        return TextStream(self._pieces, shown, drop_space=self._vocabulary.drops_first_space and not continues)

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """The prompt text for ``messages``, up to where the assistant's answer begins.

        The template writes the BOS where one is due, so encode what comes back without another. ``tools`` are function
        schemas as OpenAI's API takes them. Raises InvalidRequest when the template refuses the messages or works
        beyond its bounds, and when the model has none.
        """
        if not self.has_template:
            raise InvalidRequest(
                "This model has no chat template, so it cannot chat; it can complete text (/v1/completions).",
                param="messages",
            )
        return self._template.render(messages, tools=tools, documents=documents)


class TextStream:
    """Ids to text, one id at a time, never splitting a character.

    The pieces put together are what ``TextTokenizer.decode`` gives for all the ids at once. Cost: 0.5 µs an id.
    """

    def __init__(self, pieces: Sequence[bytes], shown: Mapping[int, bytes], *, drop_space: bool) -> None:
        self._pieces = pieces
        self._shown = shown
        self._drop_space = drop_space
        self._held = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The text that ``token_id`` completes, '' while a character is unfinished and for an id without a token.

        A space right before an unfinished character waits for it: mostly they are parts of one word, and who goes on
        from a text that ends between them would put another space there.
        """
        piece = self._shown.get(token_id)
        if piece is None:
            piece = self._pieces[token_id] if 0 <= token_id < len(self._pieces) else b""
        text = self._decoder.decode(piece)
        if self._held or text[-1:] == " ":
            text = self._with_its_space(text, piece)
        return self._without_space(text)

    def flush(self) -> str:
        """What is left when no more ids come: U+FFFD for a character that was never finished."""
        left, self._held = self._held + self._decoder.decode(b"", final=True), ""
        self._decoder.reset()
        return self._without_space(left)

    def _with_its_space(self, text: str, piece: bytes) -> str:
        text, self._held = self._held + text, ""
        if text[-1:] == " " and piece[-1:] >= b"\x80":
            self._held, text = " ", text[:-1]
        return text

    def _without_space(self, text: str) -> str:
        if self._drop_space and text:
            self._drop_space = False
            return text.removeprefix(" ")
        return text


def _without(texts: list[bytes], hidden: frozenset[int]) -> list[bytes]:
    pieces = list(texts)
    for token_id in hidden:
        if token_id < len(pieces):
            pieces[token_id] = b""
    return pieces
