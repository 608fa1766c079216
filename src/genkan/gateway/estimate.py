"""How many tokens a request will take, told before anybody has counted them. Pure.

Theory. Limits on tokens are drawn on before a request is sent, so its tokens must be guessed; to run each upstream's
own tokenizer would cost more than all the rest of a request. What a tokenizer does is close to linear: so many tokens a
character of ASCII, more for each byte of other scripts (of Vietnamese or Korean), and some around each message. The
three numbers are learned, for each route, from what its upstreams report, by normalised least mean squares, which is a
few multiplications a request. The length of answers is learned as a mean and a mean deviation.

Budgets must not be overshot, so they need a bound and no guess: a token of any tokenizer in use stands for a byte at
least, templates add a few tokens around each message, and an answer ends at ``max_tokens``. Tools and calls are JSON
that templates write anew, with white space after commas, brackets and colons: a token more for each byte at most, and
some words on how to call. What a field that nobody here knows does at its upstream is not known either (``documents``
and ``chat_template`` become part of the prompt), so all of it counts, but for a few fields that are never in a prompt.
Files, videos and sound have no size in tokens that could be told from here, and what is searched or fetched for a
prompt has none at all: with any of them the prompt may be as long as context windows are.

Source: Widrow and Hoff, "Adaptive switching circuits", 1960 (LMS); Jacobson, "Congestion avoidance and control", 1988
(mean and deviation).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from genkan.wire.chat import ChatRequest, CompletionRequest, GenerationRequest
from genkan.wire.extras import OWN_KEYS

_STEP = 0.1
_ANSWER_STEP = 0.05
_FIRST_ANSWER_TOKENS = 256.0
_EAGER_LESSONS, _THEN_EVERY = 1000, 7  # a prime, so that clients that take turns all teach
_PER_IMAGE = 1500  # what vision models take for a middling one
_MOST_PER_IMAGE = 49_152  # gpt-4o-mini takes 48,169 for the largest, vLLM's Qwen-VL 16,384
_PER_FILE = 4_000  # some pages, or two minutes of speech
_MOST_OF_FILES = 1 << 20  # of all of them together: as long as the context windows of the usual models get
_FEW_BYTES = 256  # of fields that are not known, settings rather than text: still to be learnt from
_MOST_PER_MESSAGE = 16
_MOST_AROUND = 64  # a template's own system prompt
_MOST_AROUND_TOOLS = 512  # what it says of how to call them; Qwen's says 90 tokens, Llama's 150
_MOST_PER_TOOL = 64  # what is written out of a tool that does not say it: that it has no description, no parameters
#: What a prompt is made of besides messages.
_BESIDES = ("tools", "functions", "response_format", "suffix")
_TOOLS = ("tools", "functions")
#: What is measured, and what is never in a prompt.
_KNOWN = frozenset(
    {
        *_BESIDES, *OWN_KEYS, "messages", "prompt", "model", "stream", "stream_options", "cache_salt", "max_tokens",
        "max_completion_tokens", "n", "best_of", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "ignore_eos",
        "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "logprobs", "top_logprobs", "echo",
        "parallel_tool_calls", "min_tokens", "stop_token_ids", "include_stop_str_in_output", "priority", "user",
        "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    }
)  # fmt: skip
_SETTINGS = _KNOWN.difference(_BESIDES)  # never in a prompt, so nothing to measure
#: What has an upstream search, or compute, a prompt of any length.
_FETCHING = ("web_search_options", "plugins", "chat_template")
_SPOKEN = ("role", "content")
_TEXT_PARTS = frozenset({"refusal", "thinking", "input_text", "output_text"})
_IMAGE_PARTS = frozenset({"image_url", "input_image", "image"})


class Size(NamedTuple):
    """How long a prompt is."""

    ascii: int  # characters
    other: int  # bytes of characters that are not ASCII
    messages: int
    images: int
    tokens: int  # of prompts that come as token ids
    files: int = 0  # and videos, sounds, searches: whatever may take any number of tokens
    unknown: int = 0  # bytes of fields that may get into the prompt
    rewritten: int = 0  # of its characters, those of tools and calls, which templates may write with more white space


def size_of(request: GenerationRequest) -> Size:
    """The size of its prompt. Cost: 0.4 µs, and 0.1 µs a message, for ASCII texts; else 1 µs and 0.3 µs."""
    if isinstance(request, ChatRequest):
        return _plain_size(request) or _chat_size(request)
    assert isinstance(request, CompletionRequest)
    measure = _Measure()
    for prompt in request.prompts:
        if isinstance(prompt, str):
            measure.text(prompt)
        else:
            measure.tokens += len(prompt)
    measure.besides(request.raw)
    return measure.size(len(request.prompts))


def size_of_texts(texts: Sequence[str]) -> Size:
    """The size of texts that are read for themselves, each a message. Cost: 0.1 µs a text of ASCII, else 1 µs."""
    measure = _Measure()
    for text in texts:
        measure.text(text)
    return measure.size(len(texts))


def answers_to(request: GenerationRequest) -> int:
    """How many answers its client gets."""
    prompts = len(request.prompts) if isinstance(request, CompletionRequest) else 1
    return prompts * request.sampling.n


def most_answers_to(request: GenerationRequest) -> int:
    """How many answers may be generated for it: of ``best_of`` all are, and ``n`` are shown."""
    best_of = request.raw.get("best_of")
    prompts = len(request.prompts) if isinstance(request, CompletionRequest) else 1
    return prompts * max(request.sampling.n, best_of if type(best_of) is int else 1)


def most_prompt_tokens(size: Size) -> int:
    """No tokenizer takes more for it."""
    return (
        size.ascii
        + size.other
        + size.tokens
        + _MOST_PER_MESSAGE * size.messages
        + _MOST_PER_IMAGE * size.images
        + (_MOST_OF_FILES if size.files else 0)
        + size.unknown
        + _MOST_AROUND
        + (_MOST_AROUND_TOOLS + size.rewritten if size.rewritten else 0)
    )


class Estimator:
    """What one route's requests take, as far as its upstreams have told. Starts from what is usual."""

    __slots__ = ("_around", "_deviation", "_lessons", "_mean", "_per_ascii", "_per_other")

    def __init__(self) -> None:
        self._per_ascii, self._per_other, self._around = 0.25, 0.4, 4.0
        self._mean, self._deviation = _FIRST_ANSWER_TOKENS, _FIRST_ANSWER_TOKENS / 2
        self._lessons = 0

    def prompt_tokens(self, size: Size) -> int:
        """A fair guess at the prompt's tokens, at least 1."""
        seen = _PER_IMAGE * size.images + _PER_FILE * size.files
        return max(1, round(self._guess(size)) + size.tokens + seen)

    def answer_tokens(self, max_tokens: int | None, choices: int) -> int:
        """What most answers stay below; never more than ``max_tokens`` allows."""
        usual = round(self._mean + self._deviation)
        return choices * max(1, usual if max_tokens is None else min(usual, max_tokens))

    def learn(self, size: Size, prompt_tokens: int, completion_tokens: int, choices: int) -> None:
        """An upstream has counted. Of a route that has many requests only some teach anything new."""
        self._lessons += 1
        if self._lessons > _EAGER_LESSONS and self._lessons % _THEN_EVERY:
            return
        if not (size.images or size.files or size.unknown > _FEW_BYTES):
            self._learn_prompt(size, prompt_tokens - size.tokens)
        error = completion_tokens / choices - self._mean
        self._mean += _ANSWER_STEP * error
        self._deviation += _ANSWER_STEP * (abs(error) - self._deviation)

    def _guess(self, size: Size) -> float:
        return self._per_ascii * size.ascii + self._per_other * size.other + self._around * size.messages

    def _learn_prompt(self, size: Size, tokens: int) -> None:
        ascii_chars, other, messages = size.ascii, size.other, size.messages
        power = float(ascii_chars**2 + other**2 + messages**2)
        if power == 0.0:
            return
        pull = _STEP * (tokens - self._guess(size)) / power
        self._per_ascii = min(max(self._per_ascii + pull * ascii_chars, 0.02), 1.0)
        if other:  # else it stays as it is
            self._per_other = min(max(self._per_other + pull * other, 0.02), 1.0)
        self._around = min(max(self._around + pull * messages, 0.0), 40.0)


class _Measure:
    __slots__ = ("ascii", "files", "images", "other", "rewritten", "tokens", "unknown")

    def __init__(self) -> None:
        self.ascii = self.other = self.images = self.tokens = self.files = self.unknown = self.rewritten = 0

    def text(self, text: str) -> None:
        if text.isascii():
            self.ascii += len(text)
            return
        ascii_chars = len(text.encode("ascii", "ignore"))
        self.ascii += ascii_chars
        self.other += len(text.encode("utf-8", "surrogatepass")) - ascii_chars

    def besides(self, raw: dict[str, Any]) -> None:
        if _SETTINGS.issuperset(raw):
            return
        for name in _BESIDES:
            if (value := raw.get(name)) is not None:
                num_bytes = _json_bytes(value)
                self.ascii += num_bytes
                if name in _TOOLS and value:
                    self.rewritten += num_bytes + _MOST_PER_TOOL * (len(value) if type(value) is list else 1)
        if not _KNOWN.issuperset(raw):
            for name, value in raw.items():
                if name not in _KNOWN and value is not None:
                    self.unknown += len(name) + _json_bytes(value)
                    self.files += name in _FETCHING

    def message(self, message: dict[str, Any]) -> None:
        content = message.get("content")
        if type(content) is str:
            self.text(content)
        elif type(content) is list:
            for part in content:
                self._part(part)
        if len(message) > 2 or "content" not in message:
            num_bytes = _json_bytes({name: value for name, value in message.items() if name not in _SPOKEN})
            self.ascii += num_bytes
            self.rewritten += num_bytes if "tool_calls" in message or "function_call" in message else 0
            self.files += message.get("audio") is not None  # an earlier answer's, by its id

    def _part(self, part: dict[str, Any]) -> None:
        kind = part.get("type")
        if kind == "text":
            self.text(part["text"])
        elif kind in _IMAGE_PARTS:
            self.images += 1
        elif kind in _TEXT_PARTS:
            self.ascii += _json_bytes(part)
        else:
            self.files += 1

    def size(self, messages: int) -> Size:
        return Size(
            self.ascii, self.other, messages, self.images, self.tokens, self.files, self.unknown, self.rewritten
        )


def _plain_size(request: ChatRequest) -> Size | None:
    """Of ASCII texts with nothing but settings beside them, as most chats are; None of any other chat."""
    if not _SETTINGS.issuperset(request.raw):
        return None
    chars = 0
    for message in request.messages:
        content = message.get("content")
        if type(content) is not str or len(message) != 2 or not content.isascii():
            return None
        chars += len(content)
    return Size(chars, 0, len(request.messages), 0, 0)


def _chat_size(request: ChatRequest) -> Size:
    measure = _Measure()
    for message in request.messages:
        measure.message(message)
    measure.besides(request.raw)
    return measure.size(len(request.messages))


def _json_bytes(value: Any) -> int:
    try:
        return len(orjson.dumps(value))
    except TypeError:  # nested deeper than can be written: its upstream will not see it either
        return len(str(value))
