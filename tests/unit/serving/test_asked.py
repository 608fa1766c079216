"""What the engine is told of a request."""

from typing import Any

import pytest
from local_answers import chat, completion

from genkan.config import ModelDefaults
from genkan.engine.grammar.spec import GrammarSpec
from genkan.engine.sampling_params import SamplingParams
from genkan.errors import ContextTooLong
from genkan.serving.asked import Asked
from genkan.wire.chat import GenerationRequest

DEFAULTS = ModelDefaults(max_tokens=50, temperature=0.7, top_p=0.9)
STOPS = frozenset({2, 0})


def asked(request: GenerationRequest, grammar: GrammarSpec | None = None) -> Asked:
    return Asked(request, DEFAULTS, STOPS, 128, grammar)


def test_a_silent_request_gets_the_models_defaults() -> None:
    assert asked(chat()).params(10) == SamplingParams(max_tokens=50, temperature=0.7, top_p=0.9, stop_ids=STOPS)


def test_every_option_reaches_the_engine() -> None:
    given: dict[str, Any] = {
        "max_tokens": 9, "temperature": 0, "top_p": 0.5, "top_k": 40, "min_p": 0.1, "seed": 7, "ignore_eos": True,
        "min_tokens": 3, "repetition_penalty": 1.5, "presence_penalty": -1, "frequency_penalty": 2,
        "logit_bias": {"5": -100, "6": 3}, "logprobs": True, "top_logprobs": 4,
    }  # fmt: skip
    spec = GrammarSpec("json_object")
    assert asked(chat(**given), spec).params(10) == SamplingParams(
        max_tokens=9,
        min_tokens=3,
        stop_ids=STOPS,
        temperature=0.0,
        top_p=0.5,
        top_k=40,
        min_p=0.1,
        seed=7,
        ignore_eos=True,
        repetition_penalty=1.5,
        presence_penalty=-1.0,
        frequency_penalty=2.0,
        logit_bias=((5, -100.0), (6, 3.0)),
        logprobs=4,
        grammar=spec,
    )


@pytest.mark.parametrize(
    ("options", "logprobs", "prompt_logprobs"),
    [
        ({}, None, None),
        ({"logprobs": 0}, 0, None),
        ({"logprobs": 3, "echo": True}, 3, 3),
        ({"echo": True}, None, None),
    ],
)
def test_an_echo_wants_the_prompts_log_probabilities_too(
    options: dict[str, Any], logprobs: int | None, prompt_logprobs: int | None
) -> None:
    params = asked(completion(**options)).params(10)
    assert (params.logprobs, params.prompt_logprobs) == (logprobs, prompt_logprobs)


@pytest.mark.parametrize(
    ("options", "stop_ids", "ignore_eos"),
    [
        ({}, {0, 2}, False),
        ({"ignore_eos": True}, {0, 2}, True),
        ({"stop_token_ids": [7]}, {0, 2, 7}, False),
        ({"stop_token_ids": [7], "ignore_eos": True}, {7}, False),
    ],
)
def test_a_stop_token_that_was_asked_for_ends_an_answer_whatever_becomes_of_the_models_own(
    options: dict[str, Any], stop_ids: set[int], ignore_eos: bool
) -> None:
    request = asked(chat(**options))
    params = request.params(10)
    assert (set(params.stop_ids), params.ignore_eos) == (stop_ids, ignore_eos)
    assert request.ending(parallel_calls=True).stop_ids == stop_ids


@pytest.mark.parametrize(
    ("options", "prompt_tokens", "max_tokens"),
    [
        ({}, 100, 28),
        ({"min_tokens": 60}, 10, 60),
        ({"max_tokens": 118}, 10, 118),
        ({"max_tokens": 0, "echo": True}, 127, 1),
    ],
)
def test_the_length_is_what_was_asked_for_or_what_there_is_room_for(
    options: dict[str, Any], prompt_tokens: int, max_tokens: int
) -> None:
    assert asked(completion(**options)).params(prompt_tokens).max_tokens == max_tokens


@pytest.mark.parametrize(
    ("options", "prompt_tokens"),
    [({}, 128), ({"min_tokens": 60}, 70), ({"max_tokens": 119}, 10), ({"max_tokens": 0, "echo": True}, 128)],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], prompt_tokens: int) -> None:
    with pytest.raises(ContextTooLong):
        asked(completion(**options)).params(prompt_tokens)


@pytest.mark.parametrize(
    ("options", "begun_tokens", "left_tokens"),
    [
        ({}, 20, 30),  # within our own bound, which holds for it
        ({}, 50, 0),
        ({}, 60, 50),  # begun where ours does not hold
        ({}, 110, 8),
        ({}, 118, 0),
        ({"max_tokens": 60}, 60, 0),
        ({"max_tokens": 60}, 20, 40),
    ],
)
def test_an_answer_that_was_begun_has_the_rest_of_its_length(
    options: dict[str, Any], begun_tokens: int, left_tokens: int
) -> None:
    assert asked(chat(**options)).params(10, begun_tokens).max_tokens == left_tokens


def test_an_answer_begun_beyond_the_window_does_not_fit() -> None:
    with pytest.raises(ContextTooLong):
        asked(chat()).params(10, 119)
