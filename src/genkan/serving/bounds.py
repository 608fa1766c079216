"""How much one request may ask of an engine. Looked at before anything is tokenised, but for what tokens decide."""

from collections.abc import Iterable

from genkan.errors import InvalidRequest, UnsupportedOption
from genkan.wire.chat import CompletionRequest, GenerationRequest

MAX_ANSWERS = 8  # to one prompt
MAX_PROMPTS = 16
#: Log probabilities in all of a request: whole answers with more would be larger than the gateway reads, 16 MiB.
MAX_LOGPROBS = 1 << 17


def check_bounds(request: GenerationRequest, vocab_size: int) -> None:
    """Raises InvalidRequest naming the option, its limit and what was given."""
    n = request.sampling.n
    if n > MAX_ANSWERS:
        raise InvalidRequest(f"'n' must be at most {MAX_ANSWERS} for this model; given: {n}.", param="n")
    if isinstance(request, CompletionRequest):
        best_of = request.raw.get("best_of")
        if best_of not in (None, n):
            raise UnsupportedOption("best_of", f"it must be 'n', {n}; given: {best_of}")
        if (given := len(request.prompts)) > MAX_PROMPTS:
            raise InvalidRequest(
                f"'prompt' must be at most {MAX_PROMPTS} prompts for this model; given: {given}.", param="prompt"
            )
    sampling = request.sampling
    check_ids((token for token, _ in sampling.logit_bias), vocab_size, "logit_bias")
    check_ids(sampling.stop_ids, vocab_size, "stop_token_ids")


def check_ids(ids: Iterable[int], vocab_size: int, param: str) -> None:
    """Raises InvalidRequest where one of ``ids`` is none of the model's."""
    largest = max(ids, default=0)
    if largest >= vocab_size:
        raise InvalidRequest(
            f"'{param}' holds the token id {largest}; this model's ids are below {vocab_size}.", param=param
        )


def check_logprobs(num_tokens: int, top: int) -> None:
    """Raises InvalidRequest where the log probabilities of so many tokens, and ``top`` beside each, are too many."""
    if (given := num_tokens * (top + 1)) > MAX_LOGPROBS:
        raise InvalidRequest(
            f"A request may ask for at most {MAX_LOGPROBS} log probabilities in all of its answers; given: {given} "
            f"({num_tokens} tokens, with {top} beside each).",
            param="logprobs",
        )
