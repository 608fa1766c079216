"""The options that say how tokens are chosen and when an answer ends, as a request's body has them.

Ranges are those of OpenAI's API reference, or vLLM's for the options that are its own: ``top_k``, ``min_p``,
``repetition_penalty``, ``min_tokens``, ``ignore_eos``, ``stop_token_ids``, ``include_stop_str_in_output``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from genkan.errors import InvalidRequest
from genkan.wire.fields import Fields, wrong_type

MAX_TOKENS = 2**31 - 1
MAX_STOPS = 4
MAX_STOP_CHARS = 256
MAX_STOP_IDS = 64
MAX_TOP_K = 1_000_000
MAX_TOP_LOGPROBS = 20
MAX_ANSWERS = 128
MAX_BIASES = 300
#: vLLM takes any above 0; beyond these a row of logits is no longer one of numbers, or of one number only.
LEAST_REPETITION_PENALTY, MAX_REPETITION_PENALTY = 0.01, 10.0
_MAX_ID_DIGITS = 10
_MAX_ID = 2**31 - 1


class Sampling(NamedTuple):
    """How to choose tokens and when to end; ``None`` is "the model's default", of ``top_k`` "all".

    ``logprobs`` is how many of the likeliest tokens are to stand beside each, 0 for none but itself; None: no log
    probabilities. ``stop_ids`` end an answer besides the model's own; ``shows_stop``: what ended it is part of it.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    min_tokens: int = 0
    stop_ids: tuple[int, ...] = ()
    shows_stop: bool = False


def read_sampling(fields: Fields, raw: dict[str, Any], max_tokens: int | None, logprobs: int | None) -> Sampling:
    """The options of one body. Raises InvalidRequest. Costs one set operation for those that are not there."""
    options: dict[str, Any] = {"max_tokens": max_tokens, "logprobs": logprobs}
    for name in sorted(raw.keys() & _READERS.keys(), key=_ORDER):
        value = _READERS[name](fields, name)
        if value is not None:
            options[_NAMES.get(name, name)] = value
    min_tokens = options.get("min_tokens")
    if min_tokens is not None and max_tokens is not None and min_tokens > max_tokens:
        raise InvalidRequest(
            f"'min_tokens' must be at most max_tokens, {max_tokens}; given: {min_tokens}.", param="min_tokens"
        )
    return Sampling(**options)


def chat_logprobs(fields: Fields, raw: dict[str, Any]) -> int | None:
    """How many log probabilities a chat wants beside each token, None for none at all."""
    if "logprobs" not in raw and "top_logprobs" not in raw:
        return None
    wanted, top = fields.boolean("logprobs"), fields.integer("top_logprobs", low=0, high=MAX_TOP_LOGPROBS)
    if wanted:
        return top or 0
    if top:
        raise InvalidRequest("'top_logprobs' is only allowed when 'logprobs' is true.", param="top_logprobs")
    return None


def _top_k(fields: Fields, name: str) -> int | None:
    top_k = fields.integer(name, low=-1, high=MAX_TOP_K)
    return None if top_k in (-1, 0) else top_k  # both are vLLM's way to say "all"


def _stop(fields: Fields, name: str) -> tuple[str, ...] | None:
    value = fields.raw(name)
    if value is None:
        return None
    stops = [value] if type(value) is str else value
    if type(stops) is not list:
        raise wrong_type("stop", "a string or a list of strings", value)
    if len(stops) > MAX_STOPS:
        raise InvalidRequest(f"'stop' must have at most {MAX_STOPS} entries; given: {len(stops)}.", param="stop")
    for index, stop in enumerate(stops):
        path = "stop" if stops is not value else f"stop[{index}]"
        if type(stop) is not str:
            raise wrong_type(path, "a string", stop)
        if not 1 <= len(stop) <= MAX_STOP_CHARS:
            raise InvalidRequest(
                f"'{path}' must have 1 to {MAX_STOP_CHARS} characters; given: {len(stop)}.", param=path
            )
    return tuple(stops)


def _stop_ids(fields: Fields, name: str) -> tuple[int, ...] | None:
    ids = fields.list(name)
    if ids is None:
        return None
    if len(ids) > MAX_STOP_IDS:
        raise InvalidRequest(f"'{name}' must have at most {MAX_STOP_IDS} entries; given: {len(ids)}.", param=name)
    for index, token in enumerate(ids):
        path = f"{name}[{index}]"
        if type(token) is not int:
            raise wrong_type(path, "an integer", token)
        if not 0 <= token <= _MAX_ID:
            raise InvalidRequest(f"'{path}' must be an integer between 0 and {_MAX_ID}; given: {token}.", param=path)
    return tuple(ids)


def _logit_bias(fields: Fields, name: str) -> tuple[tuple[int, float], ...] | None:
    bias = fields.object(name)
    if bias is None:
        return None
    entries = fields.raw(name)
    if len(entries) > MAX_BIASES:
        raise InvalidRequest(f"'{name}' must have at most {MAX_BIASES} entries; given: {len(entries)}.", param=name)
    read: dict[int, float] = {}
    for token in entries:
        if not (token.isascii() and token.isdecimal() and len(token) <= _MAX_ID_DIGITS):
            raise InvalidRequest(f"'{name}' keys must be token ids.", param=name)
        value = bias.number(token, low=-100, high=100)
        if value is not None:
            read[int(token)] = value
    return tuple(read.items())


_penalty: Final = partial(Fields.number, low=-2, high=2)
#: How each option is read, in the order in which what is wrong is told; None is "as `Sampling` has it". Few requests
#: have many: only those that are there are looked for.
_READERS: dict[str, Callable[[Fields, str], Any]] = {
    "presence_penalty": _penalty,
    "frequency_penalty": _penalty,
    "repetition_penalty": partial(Fields.number, low=LEAST_REPETITION_PENALTY, high=MAX_REPETITION_PENALTY),
    "logit_bias": _logit_bias,
    "temperature": partial(Fields.number, low=0, high=2),
    "top_p": partial(Fields.number, low=0, high=1, above_low=True),
    "top_k": _top_k,
    "min_p": partial(Fields.number, low=0, high=1),
    "seed": partial(Fields.integer, low=-(2**63), high=2**63 - 1),
    "stop": _stop,
    "stop_token_ids": _stop_ids,
    "include_stop_str_in_output": Fields.boolean,
    "ignore_eos": Fields.boolean,
    "min_tokens": partial(Fields.integer, low=0, high=MAX_TOKENS),
    "n": partial(Fields.integer, low=1, high=MAX_ANSWERS),
}
_ORDER = tuple(_READERS).index
#: What is called otherwise in `Sampling`.
_NAMES = {"stop_token_ids": "stop_ids", "include_stop_str_in_output": "shows_stop"}
