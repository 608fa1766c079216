"""How much one request may ask of an engine."""

import pytest
from local_answers import chat, completion

from genkan.errors import InvalidRequest
from genkan.serving.bounds import MAX_LOGPROBS, MAX_PROMPTS, check_bounds, check_ids, check_logprobs
from genkan.wire.chat import GenerationRequest

VOCAB = 100


@pytest.mark.parametrize(
    "request_",
    [
        chat(),
        chat(n=8, logit_bias={"99": 100}, stop_token_ids=[99]),
        completion(["a"] * MAX_PROMPTS, n=8, best_of=8),
        completion(best_of=None),
    ],
)
def test_what_is_within_the_bounds_passes(request_: GenerationRequest) -> None:
    check_bounds(request_, VOCAB)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (chat(n=9), "n"),
        (completion(n=1, best_of=2), "best_of"),
        (completion(n=2, best_of=1), "best_of"),
        (completion(["a"] * (MAX_PROMPTS + 1)), "prompt"),
        (chat(logit_bias={"99": 1, "100": 1}), "logit_bias"),
        (chat(stop_token_ids=[100]), "stop_token_ids"),
    ],
)
def test_what_is_not_is_refused_by_name(request_: GenerationRequest, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_bounds(request_, VOCAB)
    assert caught.value.param == param


def test_no_ids_are_all_of_the_model() -> None:
    check_ids([], VOCAB, "p")


def test_log_probabilities_are_counted_with_their_neighbours() -> None:
    check_logprobs(MAX_LOGPROBS // 16, 15)
    with pytest.raises(InvalidRequest, match=f"at most {MAX_LOGPROBS} log probabilities") as caught:
        check_logprobs(MAX_LOGPROBS // 16 + 1, 15)
    assert caught.value.param == "logprobs"
