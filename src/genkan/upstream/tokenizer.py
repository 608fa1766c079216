"""Text and token ids: a tokenizer and chat template as a GGUF file describes them.

The tokenizer is built from the file's own vocabulary and merges. Which pre-tokenizer they were trained with is only
named in the file (``tokenizer.ggml.pre``) and decides how digits and line breaks split, so an unknown name is an
error, never a guess. The chat template is Jinja from a file of unknown origin and is rendered in a sandbox.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.decoders import DecodeStream
from tokenizers.models import BPE

from genkan.errors import InvalidRequest, ModelFileError

_CONTROL_TOKEN = 3  # `tokenizer.ggml.token_type` of a special token
_USER_DEFINED_TOKEN = 4
_PRE_TOKENIZERS = {
    "smollm": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
}
_SLICE_CHARS = 1 << 15
_SLICE_SLACK = 64  # ids that cutting a text in two may add, generously: no token is longer than 81 characters
_END_OF_TURN = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "</s>")


class TextTokenizer:
    """The tokenizer and chat template of one model. Immutable and safe to share between threads."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        """``metadata`` are a GGUF file's key-values. Raises ModelFileError for a tokenizer it does not know."""
        self._tokenizer = _tokenizer(metadata)
        self.vocab_size = self._tokenizer.get_vocab_size()
        self._bos = [metadata["tokenizer.ggml.bos_token_id"]] if metadata.get("tokenizer.ggml.add_bos_token") else []
        self.stop_ids = self._stop_ids(metadata)
        self._template = _template(metadata)
        self._special = {name: _text_of(metadata, f"tokenizer.ggml.{name}_id") for name in ("bos_token", "eos_token")}

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``; the spelling of a special token becomes that token. Cost: about 1 µs a character."""
        return self._bos + self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_up_to(self, text: str, limit: int) -> list[int]:
        """The ids of ``text``, or of a beginning of it that already has more than ``limit`` ids.

        Bounds the time that a text far beyond the limit can take: megabytes take seconds to encode whole.
        """
        if len(text) > 2 * _SLICE_CHARS:
            beginning = 0
            for start in range(0, len(text), _SLICE_CHARS):
                beginning += len(self._tokenizer.encode(text[start : start + _SLICE_CHARS], add_special_tokens=False))
                if beginning > limit + _SLICE_SLACK * (1 + start // _SLICE_CHARS):
                    ids = self.encode(text[: start + _SLICE_CHARS])
                    if len(ids) > limit:
                        return ids
        return self.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids`` without special tokens; bytes that are no UTF-8 become U+FFFD."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def render_chat(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The prompt text for ``messages``, up to where the assistant's answer begins.

        Each message has ``role`` and ``content``, both strings. Raises InvalidRequest when the template refuses them.
        """
        try:
            return str(self._template.render(messages=messages, add_generation_prompt=True, **self._special))
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise InvalidRequest(
                f"The model's chat template refuses these messages: {error}", param="messages"
            ) from None

    def text_stream(self) -> "TextStream":
        """A decoder for one sequence."""
        return TextStream(self._tokenizer)

    def _stop_ids(self, metadata: Mapping[str, Any]) -> frozenset[int]:
        named = [self._tokenizer.token_to_id(token) for token in _END_OF_TURN]
        return frozenset({int(metadata["tokenizer.ggml.eos_token_id"]), *(i for i in named if i is not None)})


class TextStream:
    """Ids to text, one id at a time, never splitting a character.

    The pieces put together are what ``TextTokenizer.decode`` gives for all the ids at once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._pending: list[int] = []  # ids since the last piece of text

    def push(self, token_id: int) -> str:
        """The text that ``token_id`` completes, '' while a character is unfinished."""
        self._pending.append(token_id)
        piece = self._stream.step(self._tokenizer, token_id)
        if piece is None:
            return ""
        self._pending.clear()
        return piece

    def flush(self) -> str:
        """What is left when no more ids come: U+FFFD for a character that was never finished."""
        left = self._tokenizer.decode(self._pending, skip_special_tokens=True)
        self._pending.clear()
        return left


def _tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind != "gpt2" or pre not in _PRE_TOKENIZERS:
        raise ModelFileError(
            f"the model's tokenizer is {kind!r} with pre-tokenizer {pre!r}; "
            f"known: 'gpt2' with {', '.join(map(repr, _PRE_TOKENIZERS))}"
        )
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = _PRE_TOKENIZERS[pre]()  # type: ignore[no-untyped-call]
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(_added(metadata, _CONTROL_TOKEN))
    tokenizer.add_tokens(_added(metadata, _USER_DEFINED_TOKEN))
    return tokenizer


def _added(metadata: Mapping[str, Any], token_type: int) -> list[AddedToken]:
    typed = zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"], strict=True)
    return [
        AddedToken(token, special=token_type == _CONTROL_TOKEN, normalized=False)
        for token, its_type in typed
        if its_type == token_type
    ]


def _template(metadata: Mapping[str, Any]) -> Any:
    source = metadata.get("tokenizer.chat_template")
    if not source:
        raise ModelFileError("the model file has no chat template")
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _refuse
    try:
        return environment.from_string(source)
    except TemplateError as error:
        raise ModelFileError(f"the model's chat template cannot be read: {error}") from error


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _text_of(metadata: Mapping[str, Any], id_key: str) -> str:
    token_id = metadata.get(id_key)
    return "" if token_id is None else str(metadata["tokenizer.ggml.tokens"][token_id])
