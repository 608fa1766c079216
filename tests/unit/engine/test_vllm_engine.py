"""vLLM as an EngineClient, against a stand-in of vLLM 0.32's surface (``tests/vllm_stand_in.py``)."""

import asyncio
import contextlib
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import vllm_stand_in
from fakes import Changes
from vllm_stand_in import AsyncLLM, CompletionOutput, Logprob, RequestOutput

from genkan.engine.client import Capability, EngineClient
from genkan.engine.config import EngineConfig
from genkan.engine.grammar.spec import GrammarSpec
from genkan.engine.logprobs import TokenLogprobs
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import PrefixOptions, Token
from genkan.engine.vllm_engine import VllmEngine
from genkan.errors import (
    ConfigError,
    ContextTooLong,
    EngineFailed,
    EngineOverloaded,
    EngineUnavailable,
    InvalidRequest,
    ModelFileError,
    UnsupportedOption,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    vllm_stand_in.install(monkeypatch)
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def engine_of(
    model: Path, observer: Changes | None = None, broken: list[str] | None = None, **settings: Any
) -> tuple[VllmEngine, AsyncLLM]:
    """An engine and the vLLM behind it; ``broken`` gets an entry when it says that it is."""
    told = [] if broken is None else broken
    config = EngineConfig(model=str(model), **settings)
    return VllmEngine(config, observer, on_broken=lambda: told.append("broken")), AsyncLLM.made[-1]


def params_of(**options: Any) -> SamplingParams:
    return SamplingParams(**({"max_tokens": 3} | options))


async def tokens_of(engine: EngineClient, prompt: list[int], params: SamplingParams, **options: Any) -> list[Token]:
    return [token async for token in engine.generate(prompt, params, **options)]


# --- Tokens ---


async def test_each_token_comes_as_it_is_there_and_the_last_says_why(model: Path) -> None:
    engine, _ = engine_of(model)
    assert await tokens_of(engine, [1, 2], params_of()) == [
        Token(3, None, 16), Token(4, None, 16), Token(5, "length", 16)
    ]  # fmt: skip
    stopped = await tokens_of(engine, [1, 2], params_of(stop_ids=frozenset({4})))
    assert stopped == [Token(3, None, 16), Token(4, "stop", 16)]


async def test_several_answers_come_side_by_side_and_each_ends(model: Path) -> None:
    engine, _ = engine_of(model)
    tokens = await tokens_of(engine, [1, 2], params_of(stop_ids=frozenset({104})), n=2)
    assert [(token.answer, token.id, token.finish_reason) for token in tokens] == [
        (0, 3, None), (1, 103, None), (0, 4, None), (1, 104, "stop"), (0, 5, "length")
    ]  # fmt: skip


async def test_tokens_that_come_together_are_told_apart(model: Path) -> None:
    engine, llm = engine_of(model)
    logprobs = [{7: Logprob(-1.0)}, {8: Logprob(-2.0)}]
    llm.script = [RequestOutput([CompletionOutput(0, [7, 8], logprobs, "stop")], finished=True)]
    assert await tokens_of(engine, [1], params_of(logprobs=0)) == [
        Token(7, None, 0, 0, TokenLogprobs(-1.0)),
        Token(8, "stop", 0, 0, TokenLogprobs(-2.0)),
    ]


async def test_logprobs_are_ranked_and_no_more_than_asked_for(model: Path) -> None:
    engine, llm = engine_of(model)
    found = {9: Logprob(-5.0, 4), 1: Logprob(-1.0, 1), 3: Logprob(-2.0, 2), 2: Logprob(-2.0, 2)}  # the drawn one first
    prompt = [None, {6: Logprob(-0.5), 4: Logprob(-math.inf)}]
    llm.script = [RequestOutput([CompletionOutput(0, [9], [found], "length")], True, prompt, None)]
    [token] = await tokens_of(engine, [5, 6], params_of(max_tokens=1, logprobs=3, prompt_logprobs=1))
    assert token.logprobs == TokenLogprobs(-5.0, ((1, -1.0), (2, -2.0), (3, -2.0)))
    assert token.prompt_logprobs == [None, TokenLogprobs(-0.5, ((6, -0.5),))]


async def test_those_of_the_prompt_come_with_the_first_token_of_the_first_answer_alone(model: Path) -> None:
    engine, llm = engine_of(model)
    prompt: Any = [None, {6: Logprob(-0.5)}]
    llm.script = [
        RequestOutput([CompletionOutput(1, [8, 8])], False, prompt),
        RequestOutput([CompletionOutput(0, [7, 7])], False, prompt),
        RequestOutput([CompletionOutput(0, [7], None, "stop"), CompletionOutput(1, [8], None, "stop")], True),
    ]
    tokens = await tokens_of(engine, [5, 6], params_of(prompt_logprobs=0), n=2)
    assert [token.prompt_logprobs is not None for token in tokens] == [False, False, True, False, False, False]


@pytest.mark.parametrize("reason", ["abort", "error", "repetition"])
async def test_an_answer_that_vllm_gives_up_is_a_failure(model: Path, reason: str) -> None:
    engine, llm = engine_of(model)
    llm.script = [RequestOutput([CompletionOutput(0, [7], None, reason)], True)]
    with pytest.raises(EngineFailed):
        await tokens_of(engine, [1], params_of())


# --- What vLLM is asked ---


async def test_every_option_is_passed_on(model: Path) -> None:
    engine, llm = engine_of(model)
    params = params_of(
        min_tokens=2,
        stop_ids=frozenset({99, 98}),
        temperature=0.5,
        top_p=0.9,
        top_k=7,
        min_p=0.1,
        seed=5,
        repetition_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        logit_bias=((4, -1.0),),
        prompt_logprobs=0,
    )
    await tokens_of(engine, [1, 2], params, n=3, priority=4)
    [asked] = llm.asked
    assert asked.params == vllm_stand_in.SamplingParams(
        n=3,
        max_tokens=3,
        min_tokens=2,
        stop_token_ids=[98, 99],
        ignore_eos=True,  # our stop ids are all there are
        temperature=0.5,
        top_p=0.9,
        top_k=7,
        min_p=0.1,
        seed=5,
        repetition_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        logit_bias={4: -1.0},
        prompt_logprobs=0,
        detokenize=False,
        output_kind=vllm_stand_in.RequestOutputKind.DELTA,
    )
    assert asked.priority == -4  # lower goes first there
    assert asked.prompt == {"type": "token", "prompt_token_ids": [1, 2]}


async def test_tokens_that_the_answer_begins_with_count_for_the_fewest(model: Path) -> None:
    engine, llm = engine_of(model)
    for continued in (2, 5):
        await tokens_of(engine, [1, 2, 3, 4, 5, 6], params_of(min_tokens=3, continued=continued))
    assert [(asked.params.min_tokens, asked.params.max_tokens) for asked in llm.asked] == [(1, 3), (0, 3)]


async def test_ignoring_the_end_leaves_no_stop_ids_but_a_grammar_needs_them(model: Path) -> None:
    engine, llm = engine_of(model)
    options: dict[str, Any] = {"stop_ids": frozenset({4}), "ignore_eos": True}
    assert len(await tokens_of(engine, [1, 2], params_of(**options))) == 3
    assert len(await tokens_of(engine, [1, 2], params_of(**options, grammar=GrammarSpec("json_object")))) == 2
    assert [asked.params.stop_token_ids for asked in llm.asked] == [[], [4]]


async def test_several_greedy_answers_are_asked_for_as_vllm_allows(model: Path) -> None:
    engine, llm = engine_of(model)
    await tokens_of(engine, [1], params_of(temperature=0.0), n=2)
    await tokens_of(engine, [1], params_of(temperature=0.0, top_k=9))
    assert [(asked.params.temperature, asked.params.top_k) for asked in llm.asked] == [(1.0, 1), (0.0, 9)]


async def test_seeds_that_mean_none_to_vllm_or_overflow_there_are_seeds(model: Path) -> None:
    engine, llm = engine_of(model)
    for seed in (-1, -(2**63), 2**63 - 1, None):
        await tokens_of(engine, [1], params_of(seed=seed))
    seeds = [asked.params.seed for asked in llm.asked]
    assert seeds[-1] is None
    assert all(0 <= seed < 2**63 for seed in seeds[:-1])


@pytest.mark.parametrize(
    ("grammar", "field"),
    [
        (GrammarSpec("json_object"), {"json_object": True}),
        (GrammarSpec("json_schema", '{"type":"null"}'), {"json": '{"type":"null"}'}),
        (GrammarSpec("regex", "a+"), {"regex": "a+"}),
        (GrammarSpec("choice", '["a","b"]'), {"choice": ["a", "b"]}),
        (GrammarSpec("lark", 'start: "a"'), {"grammar": 'start: "a"'}),
    ],
)
async def test_a_grammar_is_passed_on_and_checked_in_a_thread(
    model: Path, grammar: GrammarSpec, field: dict[str, Any]
) -> None:
    engine, llm = engine_of(model)
    await tokens_of(engine, [1], params_of(grammar=grammar))
    [asked] = llm.asked
    assert asked.params.structured_outputs == vllm_stand_in.StructuredOutputsParams(**field)
    assert "type" not in asked.prompt  # vLLM prepares what is raw in a thread


async def test_namespaces_are_salts_and_a_request_without_the_cache_has_one_of_its_own(model: Path) -> None:
    engine, llm = engine_of(model)
    await tokens_of(engine, [1], params_of(), prefix=PrefixOptions(namespace=b"\x00\xff"))
    for _ in range(2):
        await tokens_of(engine, [1], params_of(), prefix=PrefixOptions(namespace=b"\x00\xff", use=False))
    salts = [asked.prompt["cache_salt"] for asked in llm.asked]
    assert salts[0] == "00ff"
    assert len(set(salts)) == 3


def test_settings_are_passed_on_where_they_are_set_and_those_for_vllm_win(model: Path) -> None:
    _, plain = engine_of(model)
    assert (plain.args.max_num_seqs, plain.args.max_num_batched_tokens, plain.args.block_size) == (None, None, None)
    assert (plain.args.scheduling_policy, plain.args.dtype) == ("priority", "auto")
    assert plain.args.structured_outputs_config["backend"] == "guidance"
    _, given = engine_of(
        model,
        profile="exact",
        max_sequences=8,
        max_batched_tokens=64,
        max_model_len=32,
        block_size=32,
        prefix_cache=False,
        vllm={"tensor_parallel_size": 2, "block_size": 64},
    )
    assert given.args == vllm_stand_in.AsyncEngineArgs(
        model=str(model),
        dtype="float32",
        enable_prefix_caching=False,
        scheduling_policy="priority",
        structured_outputs_config={"backend": "guidance", "disable_any_whitespace": True},
        disable_log_stats=True,
        max_model_len=32,
        max_num_seqs=8,
        max_num_batched_tokens=64,
        block_size=64,
        tensor_parallel_size=2,
    )


# --- What cannot be ---


def test_without_vllm_the_setting_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", None)
    with pytest.raises(ConfigError, match=r"engine.backend: .*pip install 'genkan\[vllm\]'"):
        VllmEngine(EngineConfig(model=str(tmp_path), backend="vllm"))


def test_a_setting_that_vllm_does_not_have_is_named(model: Path) -> None:
    with pytest.raises(ConfigError, match=r"engine.vllm: .*no_such_setting"):
        engine_of(model, vllm={"no_such_setting": 1})


def test_a_model_that_vllm_cannot_load_is_an_error_of_the_model(model: Path) -> None:
    broken = model / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    with pytest.raises(ModelFileError, match="Cannot load it"):
        engine_of(broken)
    with pytest.raises(ModelFileError, match="no model file"):
        engine_of(model / "absent")


async def test_what_it_cannot_do_is_no_capability_and_refused(model: Path) -> None:
    engine, _ = engine_of(model)
    assert {Capability.LOGPROBS, Capability.GRAMMAR, Capability.PRIORITY, Capability.CACHE_SALT} <= engine.capabilities
    assert not engine.capabilities & {Capability.PREFIX_PIN, Capability.PREFIX_TTL, Capability.PREFIX_CACHE_VIEW}
    plain, _ = engine_of(
        model, vllm={"scheduling_policy": "fcfs", "structured_outputs_config": {"backend": "xgrammar"}}
    )
    assert engine.capabilities - plain.capabilities == {Capability.PRIORITY, Capability.GRAMMAR}
    with pytest.raises(UnsupportedOption, match="prefix-cache"):
        await engine.prefix_cache_snapshot()
    with pytest.raises(UnsupportedOption, match="prefix-cache"):
        await engine.purge_prefix_cache(b"")


async def test_prompt_and_answer_have_to_fit_the_window(model: Path) -> None:
    engine, llm = engine_of(model)
    assert engine.max_model_len == vllm_stand_in.WINDOW
    with pytest.raises(ContextTooLong):
        await tokens_of(engine, [1] * 60, params_of(max_tokens=5))
    assert llm.asked == []


async def test_what_vllm_refuses_is_the_requests_fault(model: Path) -> None:
    engine, llm = engine_of(model)
    with pytest.raises(InvalidRequest, match="temperature") as refused:
        await tokens_of(engine, [1], params_of(temperature=3.0))
    assert refused.value.param == "temperature"
    with pytest.raises(InvalidRequest, match="no schema") as refused:
        await tokens_of(engine, [1], params_of(grammar=GrammarSpec("json_schema", "not a schema")))
    assert refused.value.param == "response_format"
    llm.script = [vllm_stand_in.VLLMValidationError("too many", parameter="logprobs")]
    with pytest.raises(InvalidRequest, match="too many"):
        await tokens_of(engine, [1], params_of())
    assert engine.statistics().running == engine.statistics().waiting == 0


async def test_a_grammar_beyond_the_limit_is_refused_before_vllm_sees_it(model: Path) -> None:
    engine, llm = engine_of(model, max_grammar_bytes=1024)
    with pytest.raises(InvalidRequest, match="1024 bytes"):
        await tokens_of(engine, [1], params_of(grammar=GrammarSpec("regex", "é" * 513)))
    assert llm.asked == []


async def test_no_more_answers_than_may_run_and_wait(model: Path) -> None:
    engine, llm = engine_of(model, max_sequences=1, max_waiting=2)
    llm.go.clear()
    running = asyncio.create_task(tokens_of(engine, [1], params_of(), n=2))
    await asyncio.sleep(0)
    with pytest.raises(EngineOverloaded, match="at most 3"):
        await tokens_of(engine, [1], params_of(), n=2)
    llm.go.set()
    assert len(await running) == 6
    assert len(await tokens_of(engine, [1], params_of(), n=3)) == 9


async def test_vllms_own_limits_are_the_engine_being_busy(model: Path) -> None:
    engine, llm = engine_of(model)
    llm.script = [vllm_stand_in.GracefulHTTPError("The engine is currently busy.")]
    with pytest.raises(EngineOverloaded, match="currently busy"):
        await tokens_of(engine, [1], params_of())


# --- Failures and ends ---


async def test_a_failure_is_the_requests_own(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine, llm = engine_of(model)
    llm.script = [RequestOutput([CompletionOutput(0, [7])]), vllm_stand_in.EngineGenerateError("secret")]
    with pytest.raises(EngineFailed) as failed:
        await tokens_of(engine, [1], params_of())
    assert "secret" not in str(failed.value)
    assert "vLLM failed on a request" in caplog.text
    llm.script = None
    assert len(await tokens_of(engine, [1], params_of())) == 3


async def test_a_dead_engine_is_told_of_once_and_serves_nobody(model: Path) -> None:
    broken: list[str] = []
    engine, llm = engine_of(model, broken=broken)
    llm.script = [vllm_stand_in.EngineDeadError()]
    llm.go.clear()
    running = [asyncio.create_task(tokens_of(engine, [1], params_of())) for _ in range(3)]
    await asyncio.sleep(0)
    llm.go.set()
    outcomes = await asyncio.gather(*running, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [EngineUnavailable] * 3
    assert broken == ["broken"]
    llm.script = None
    with pytest.raises(EngineUnavailable, match="broken"):
        await tokens_of(engine, [1], params_of())
    assert len(llm.asked) == 3


async def test_closing_the_generator_aborts_the_request(model: Path) -> None:
    engine, llm = engine_of(model)
    tokens = engine.generate([1], params_of(max_tokens=9))
    await anext(tokens)
    await tokens.aclose()
    assert llm.aborted == [llm.asked[0].id]
    assert engine.statistics().running == 0


async def test_a_cancelled_reader_aborts_the_request_even_before_the_first_token(model: Path) -> None:
    engine, llm = engine_of(model)
    llm.go.clear()
    reader = asyncio.create_task(tokens_of(engine, [1], params_of()))
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert llm.aborted == [llm.asked[0].id]
    assert engine.statistics().waiting == 0


@pytest.mark.parametrize("in_thread", [False, True])
async def test_stopping_fails_whoever_waits_and_whoever_comes(model: Path, *, in_thread: bool) -> None:
    broken: list[str] = []
    engine, llm = engine_of(model, broken=broken)
    llm.go.clear()
    running = [asyncio.create_task(tokens_of(engine, [1], params_of())) for _ in range(3)]
    await asyncio.sleep(0)
    if in_thread:
        await asyncio.to_thread(engine.stop)
    else:
        engine.stop()
    outcomes = await asyncio.wait_for(asyncio.gather(*running, return_exceptions=True), 10)
    assert [str(outcome) for outcome in outcomes] == ["The engine is stopping."] * 3
    assert llm.is_down
    with pytest.raises(EngineUnavailable, match="stopping"):
        await tokens_of(engine, [1], params_of())
    assert broken == []


def test_an_engine_that_nobody_asked_anything_stops_too(model: Path) -> None:
    engine, llm = engine_of(model)
    engine.stop()
    assert llm.is_down


# --- Statistics ---


async def test_answers_and_tokens_are_counted(model: Path) -> None:
    changes = Changes()
    engine, llm = engine_of(model, changes)
    llm.go.clear()
    tokens = engine.generate([1] * 20, params_of(), n=2)
    first = asyncio.ensure_future(anext(tokens))
    await asyncio.sleep(0)
    assert (engine.statistics().waiting, engine.statistics().running) == (2, 0)
    llm.go.set()
    await first
    assert (engine.statistics().waiting, engine.statistics().running) == (0, 2)
    with contextlib.suppress(StopAsyncIteration):
        while True:
            await anext(tokens)
    seen = engine.statistics()
    assert (seen.waiting, seen.running, seen.generated_tokens) == (0, 0, 6)
    assert (seen.prompt_tokens, seen.cached_tokens, seen.prefix_queries, seen.prefix_hits) == (20, 16, 1, 1)
