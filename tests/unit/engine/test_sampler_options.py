"""Every option of a sequence, alone and together, token after token: against plain sums over the whole history."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_reference import Floats, allowed, log_softmax, reference_uniform, ruled

from genkan.engine.ranking import Floats as Row
from genkan.engine.sampler import Drawn, RowSampler, sample
from genkan.engine.sampling_params import SamplingParams
from genkan.errors import EngineFailed

VOCAB = 12


class Allows:
    """A grammar that is a list: what is allowed first, second and so on; after that nothing but the end."""

    def __init__(self, *steps: Collection[int], instead: dict[int, int] | None = None) -> None:
        self._steps = steps
        self._instead = instead or {}
        self.taken: list[tuple[int, int]] = []

    @property
    def allowed(self) -> Collection[int]:
        return self._steps[len(self.taken)]

    def mask(self, row: Row) -> None:
        row[[token for token in range(len(row)) if token not in self.allowed]] = -np.inf

    def take(self, token: int, remaining: int) -> int:
        assert token in self.allowed
        self.taken.append((token, remaining))
        return self._instead.pop(token, token)

    @property
    def is_closed(self) -> bool:
        return len(self.taken) == len(self._steps)


class Breaks:
    """A grammar that fails: in ``mask``, or in ``take``."""

    def __init__(self, error: Exception, *, in_mask: bool) -> None:
        self._error, self._in_mask = error, in_mask

    def mask(self, row: Row) -> None:
        if self._in_mask:
            raise self._error

    def take(self, token: int, remaining: int) -> int:
        raise self._error

    is_closed = False


def params_of(**options: Any) -> SamplingParams:
    return SamplingParams(max_tokens=8, **({"temperature": 0.0} | options))


def tokens_of(rows: Sequence[Sequence[float]], sampler: RowSampler) -> list[int]:
    """What the sequence says when its logits are these, row after row."""
    tokens = []
    for position, row in enumerate(rows):
        [drawn] = sample(torch.tensor([row]), [(sampler, position, len(rows) - position - 1)])
        assert isinstance(drawn, Drawn)
        tokens.append(drawn.token)
    return tokens


# --- All of them against the reference ---

ids = st.integers(0, VOCAB - 1)
tied = st.sampled_from([-1.0, 0.0, 0.5, 1.0])
extreme = st.sampled_from([-math.inf, -3.4e38, -1e5, 0.0, 1e-45, 1.0, 80.0, 3.4e38])
logits = st.one_of(st.floats(-30, 30, width=32), tied, extreme)
rows_of_logits = (
    st.lists(logits, min_size=VOCAB, max_size=VOCAB)
    .map(lambda row: np.array(row, dtype=np.float32).tolist())
    .filter(lambda row: max(row) > -math.inf)
)
options = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 0.0, 0.7, 1.0, 2.0]),
        "top_k": st.sampled_from([None, None, 1, 3, VOCAB]),
        "top_p": st.sampled_from([1.0, 1.0, 0.9, 0.3]),
        "min_p": st.sampled_from([0.0, 0.0, 0.05, 0.5]),
        "repetition_penalty": st.one_of(st.sampled_from([1.0, 1.0, 1e-300, 1e300, 2.0]), st.floats(0.1, 5)),
        "presence_penalty": st.one_of(st.just(0.0), st.floats(-2, 2)),
        "frequency_penalty": st.one_of(st.just(0.0), st.floats(-2, 2)),
        "logit_bias": st.one_of(st.just({}), st.dictionaries(ids, st.floats(-100, 100), max_size=VOCAB)).map(
            lambda bias: tuple(bias.items())
        ),
        "min_tokens": st.integers(0, 4),
        "stop_ids": st.frozensets(ids, max_size=3),
        "logprobs": st.one_of(st.none(), st.integers(0, 20)),
        "seed": st.integers(-(2**63), 2**63 - 1),
    }
)
grammars = st.one_of(st.none(), st.lists(st.frozensets(ids, min_size=3), min_size=4, max_size=4))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(rows_of_logits, min_size=1, max_size=4), options, st.lists(ids, max_size=10), grammars, st.integers(0, 7)
)
def test_every_token_is_that_of_the_reference(
    rows: list[list[float]], given_options: dict[str, Any], prompt: list[int], steps: list[Any] | None, offset: int
) -> None:
    params = params_of(**given_options)
    sampler = RowSampler(params, prompt, matcher=Allows(*steps) if steps else None, seed_offset=offset)
    answer: list[int] = []
    for row in rows:
        steps_ids = steps[len(answer)] if steps else None
        expected = ruled(row, params, prompt, answer, steps_ids)
        if steps_ids and expected.max() == -math.inf:  # the grammar goes before the fewest tokens
            expected = ruled(row, params_of(**given_options | {"min_tokens": 0}), prompt, answer, steps_ids)
        [drawn] = sample(torch.tensor([row]), [(sampler, len(answer), 0)])
        if expected.max() == -math.inf:
            assert isinstance(drawn, EngineFailed)
            return
        assert isinstance(drawn, Drawn)
        assert drawn.token in choices_of(expected, params, len(answer), offset)
        check_logprobs(row, drawn, params.logprobs)
        answer.append(drawn.token)


def choices_of(logits: Floats, params: SamplingParams, position: int, offset: int) -> set[int]:
    if params.temperature == 0 or params.top_k == 1:
        return {int(logits.argmax())}
    assert params.seed is not None
    uniform = reference_uniform(params.seed, position, offset)
    return allowed(
        logits, uniform, temperature=params.temperature, top_k=params.top_k, min_p=params.min_p, top_p=params.top_p
    )


def check_logprobs(row: list[float], drawn: Drawn, top: int | None) -> None:
    """They are of the row as the model gave it, whatever the rules made of it."""
    if top is None:
        assert drawn.logprobs is None
        return
    assert drawn.logprobs is not None
    with np.errstate(over="ignore"):
        expected = np.array(log_softmax(row), dtype=np.float32)
    ranks = sorted(range(len(row)), key=lambda token: -row[token])[:top]  # stable: the lower id first
    assert [token for token, _ in drawn.logprobs.top] == ranks
    assert [value for _, value in drawn.logprobs.top] == pytest.approx(expected[ranks].tolist(), abs=1e-5, rel=1e-6)
    assert drawn.logprobs.logprob == pytest.approx(float(expected[drawn.token]), abs=1e-5, rel=1e-6)


# --- One at a time, by hand ---


def test_repetition_counts_prompt_and_answer_and_divides_or_multiplies() -> None:
    sampler = RowSampler(params_of(repetition_penalty=2.0), [0, 0])
    # 0 was in the prompt: 3 / 2. Then 1 is in the answer: 2 / 2, so 0 is best; twice there costs no more than once.
    assert tokens_of([[3.0, 2.0, 0.0]] * 3, sampler) == [1, 0, 0]
    # Of negative logits too, the repeated is less likely: -1 * 2 against -1.5.
    assert tokens_of([[-1.0, -1.5, -9.0]], RowSampler(params_of(repetition_penalty=2.0), [0])) == [1]


def test_presence_counts_once_and_the_answer_alone() -> None:
    sampler = RowSampler(params_of(presence_penalty=1.0), [0])
    assert tokens_of([[3.0, 2.5, 0.0]] * 4, sampler) == [0, 1, 0, 0]


def test_frequency_counts_each_time_and_the_answer_alone() -> None:
    sampler = RowSampler(params_of(frequency_penalty=1.0), [1, 1, 1])
    assert tokens_of([[3.0, 1.5, -9.0]] * 5, sampler) == [0, 0, 1, 0, 1]


def test_negative_penalties_make_tokens_likelier() -> None:
    assert tokens_of([[1.0, 0.0], [0.0, 0.5]], RowSampler(params_of(presence_penalty=-1.0))) == [0, 0]
    assert tokens_of([[1.0, 0.0], [0.0, 0.5]], RowSampler(params_of(frequency_penalty=-1.0))) == [0, 0]


def test_a_bias_is_added_and_of_two_for_one_token_the_last() -> None:
    assert tokens_of([[1.0, 0.0, 0.0]], RowSampler(params_of(logit_bias=((2, 1.5),)))) == [2]
    assert tokens_of([[1.0, 0.0, 0.0]], RowSampler(params_of(logit_bias=((2, 9.0), (2, 0.5))))) == [0]
    assert tokens_of([[1.0, 0.5, 0.0]], RowSampler(params_of(logit_bias=((0, -100.0),)))) == [1]


def test_no_stop_id_comes_before_so_many_tokens() -> None:
    sampler = RowSampler(params_of(min_tokens=2, stop_ids=frozenset({0, 1})))
    assert tokens_of([[3.0, 2.0, 1.0]] * 4, sampler) == [2, 2, 0, 0]


def test_a_stop_id_beyond_the_vocabulary_forbids_nothing() -> None:
    assert tokens_of([[3.0, 2.0]], RowSampler(params_of(min_tokens=1, stop_ids=frozenset({0, 7})))) == [1]


def test_a_bias_frees_neither_a_token_that_the_grammar_forbids_nor_a_stop_id_that_is_too_early() -> None:
    bias = ((0, 100.0),)
    assert tokens_of([[1.0, 0.0, 0.5]], RowSampler(params_of(logit_bias=bias), matcher=Allows({1, 2}))) == [2]
    sampler = RowSampler(params_of(logit_bias=bias, min_tokens=1, stop_ids=frozenset({0})))
    assert tokens_of([[1.0, 0.0, 0.5]], sampler) == [2]


def test_a_bias_may_push_every_allowed_token_down_and_one_is_taken_yet() -> None:
    sampler = RowSampler(params_of(logit_bias=((1, -100.0), (2, -99.0))), matcher=Allows({1, 2}))
    assert tokens_of([[9.0, 0.0, 0.0]], sampler) == [2]


@pytest.mark.parametrize(
    "rule", [{"logit_bias": ((0, 100.0),)}, {"presence_penalty": -2.0}, {"repetition_penalty": 0.5}], ids=str
)
def test_no_rule_brings_back_a_token_that_the_model_itself_rules_out(rule: dict[str, Any]) -> None:
    sampler = RowSampler(params_of(**rule), [0], matcher=Allows({0}, {0}))
    assert tokens_of([[1.0, 2.0]], sampler) == [0]
    [drawn] = sample(torch.tensor([[-math.inf, 2.0]]), [(sampler, 1, 0)])
    assert isinstance(drawn, EngineFailed)


# --- Grammars ---


def test_a_grammar_is_told_what_was_drawn_and_how_many_may_follow_and_says_when_it_is_closed() -> None:
    matcher = Allows({1, 2}, {0, 2})
    sampler = RowSampler(params_of(), matcher=matcher)
    row = torch.tensor([[3.0, 2.0, 1.0]])
    assert sample(row, [(sampler, 0, 5)]) == [Drawn(1, None, closed=False)]
    assert sample(row, [(sampler, 1, 4)]) == [Drawn(0, None, closed=True)]
    assert matcher.taken == [(1, 5), (0, 4)]


def test_the_token_that_a_grammar_takes_instead_is_the_one_that_counts() -> None:
    params = params_of(presence_penalty=5.0, logprobs=1)
    sampler = RowSampler(params, matcher=Allows({0, 1, 2}, {0, 1, 2}, instead={0: 2}))
    row = torch.tensor([[3.0, 2.0, 1.0]])
    [first] = sample(row, [(sampler, 0, 1)])
    assert isinstance(first, Drawn)
    assert first.token == 2
    assert first.logprobs is not None
    assert first.logprobs.logprob == pytest.approx(log_softmax([3.0, 2.0, 1.0])[2], abs=1e-6)
    assert first.logprobs.top[0][0] == 0
    [second] = sample(torch.tensor([[3.0, 2.0, 3.5]]), [(sampler, 1, 0)])
    assert isinstance(second, Drawn)
    assert second.token == 0  # the answer has 2, so 2 is penalised


def test_a_grammar_that_lets_only_the_end_follow_goes_before_the_fewest_tokens() -> None:
    params = params_of(min_tokens=8, stop_ids=frozenset({0}))
    sampler = RowSampler(params, matcher=Allows({0, 1}, {0}))
    assert tokens_of([[3.0, 2.0, 9.0]] * 2, sampler) == [1, 0]


# --- Answers, seeds and company ---


def test_the_first_answer_is_that_of_a_request_for_one_and_the_others_differ_but_repeat() -> None:
    row = [0.0] * 1000
    params = params_of(temperature=1.0, seed=5)

    def answer(offset: int) -> list[int]:
        return tokens_of([row] * 8, RowSampler(params, seed_offset=offset))

    assert answer(0) == tokens_of([row] * 8, RowSampler(params))
    answers = [answer(offset) for offset in range(8)]
    assert len(set(map(tuple, answers))) == 8
    assert answers == [answer(offset) for offset in range(8)]


def test_only_a_sequence_without_rules_and_logprobs_is_plain() -> None:
    assert RowSampler(params_of(seed=1, temperature=0.5, top_p=0.5, stop_ids=frozenset({1})), [1, 2]).is_plain
    for rule in (
        {"logprobs": 0},
        {"logit_bias": ((1, 1.0),)},
        {"min_tokens": 1, "stop_ids": frozenset({1})},
        {"repetition_penalty": 1.1},
        {"presence_penalty": 0.1},
        {"frequency_penalty": -0.1},
    ):
        assert not RowSampler(params_of(**rule)).is_plain
    assert not RowSampler(params_of(), matcher=Allows()).is_plain


KINDS: list[dict[str, Any]] = [
    {},
    {"temperature": 1.0},
    {"repetition_penalty": 1.3, "logprobs": 5},
    {"temperature": 1.5, "presence_penalty": 0.7, "frequency_penalty": 0.3, "top_p": 0.9},
    {"temperature": 1.0, "logit_bias": ((7, 5.0), (9, -5.0)), "logprobs": 20},
    {"temperature": 1.0, "min_tokens": 5, "stop_ids": frozenset(range(100)), "top_k": 20},
]


def test_a_sequence_says_the_same_alone_and_among_others_whenever_they_run() -> None:
    number, steps, vocab = 12, 6, 5001
    table = torch.randn(steps, number, vocab, generator=torch.Generator().manual_seed(1)) * 2

    def samplers() -> list[RowSampler]:
        return [RowSampler(params_of(seed=place, **KINDS[place % len(KINDS)]), [1, 2, 3]) for place in range(number)]

    together = [
        sample(table[step], [(one, step, 0) for one in each])
        for each in [samplers()]
        for step in range(steps)
    ]  # fmt: skip
    alone: list[list[Any]] = [[None] * number for _ in range(steps)]
    for place, one in reversed(list(enumerate(samplers()))):  # each waits for the one before: as if it was preempted
        for step in range(steps):
            [alone[step][place]] = sample(table[step, place : place + 1].clone(), [(one, step, 0)])
    assert together == alone


def test_rules_leave_the_logits_as_they_were() -> None:
    table = torch.randn(len(KINDS), 1000, generator=torch.Generator().manual_seed(1))
    before = table.clone()
    sample(table, [(RowSampler(params_of(**kind), [1, 2]), 0, 0) for kind in KINDS])
    assert torch.equal(table, before)


# --- Failures stay in their row ---


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (RowSampler(params_of(), matcher=Breaks(EngineFailed("No way on."), in_mask=True)), "No way on."),
        (RowSampler(params_of(), matcher=Breaks(EngineFailed("No way on."), in_mask=False)), "No way on."),
        (RowSampler(params_of(), matcher=Breaks(RuntimeError("a bug"), in_mask=True)), "The engine failed on this"),
        (RowSampler(params_of(), matcher=Breaks(KeyError("a bug"), in_mask=False)), "The engine failed on this"),
        (RowSampler(params_of(logit_bias=((99, 1.0),))), "The engine failed on this"),
        (RowSampler(params_of(repetition_penalty=2.0), [99]), "The engine failed on this"),
        (RowSampler(params_of(), matcher=Allows({})), "leave no token"),
        (RowSampler(params_of(min_tokens=1, stop_ids=frozenset(range(VOCAB)))), "leave no token"),
    ],
)
def test_what_fails_in_a_row_is_its_own_and_logged_once(
    broken: RowSampler, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    table = torch.randn(3, VOCAB, generator=torch.Generator().manual_seed(1))
    best = table.argmax(dim=-1).tolist()
    rules = RowSampler(params_of(repetition_penalty=1.0001))
    first, failed, last = sample(table, [(rules, 0, 0), (broken, 0, 0), (RowSampler(params_of()), 0, 0)])
    assert [first, last] == [Drawn(best[0]), Drawn(best[2])]
    assert isinstance(failed, EngineFailed)
    assert message in str(failed)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_is_not_finite_fails_with_rules_too_and_counts_nothing(bad: float) -> None:
    matcher = Allows({1})
    sampler = RowSampler(params_of(logprobs=3, presence_penalty=1.0), matcher=matcher)
    [drawn] = sample(torch.tensor([[0.0, bad, 1.0]]), [(sampler, 0, 0)])
    assert isinstance(drawn, EngineFailed)
    assert matcher.taken == []


def test_nothing_is_drawn_when_the_numbers_of_rows_differ() -> None:
    matcher = Allows({0}, {1})
    with pytest.raises(ValueError, match="2 rows of logits for 1 sequences"):
        sample(torch.zeros(2, 3), [(RowSampler(params_of(), matcher=matcher), 0, 0)])
    assert matcher.taken == []


def test_tokens_of_the_prompt_that_are_the_answers_count_as_such() -> None:
    options: dict[str, Any] = {
        "max_tokens": 9, "temperature": 0.9, "seed": 4, "presence_penalty": 0.7, "frequency_penalty": 0.4,
        "repetition_penalty": 1.3, "min_tokens": 5, "stop_ids": frozenset({0}),
    }  # fmt: skip
    rows = np.random.default_rng(3).normal(0, 2, (9, VOCAB)).astype(np.float32)
    prompt = [1, 2, 2]
    whole = RowSampler(SamplingParams(**options), prompt)
    answer = [whole.next(row, float(row.max()), place, 8 - place).token for place, row in enumerate(rows)]
    for begun in range(1, 9):
        sampler = RowSampler(SamplingParams(**options, continued=begun), prompt + answer[:begun])
        rest = [
            sampler.next(rows[place], float(rows[place].max()), place, 8 - place).token for place in range(begun, 9)
        ]
        assert rest == answer[begun:]
