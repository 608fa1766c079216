"""Decode, prefill and cold start against transformers on the same weights: ``python -m genkan.bench.engine``."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from genkan.bench import cold_start, load, report
from genkan.bench.options import Options, benchmark
from genkan.bench.reference import CannotRun, Transformers
from genkan.bench.rounds import Arm, Rounds, interleaved
from genkan.bench.timing import decode_rate
from genkan.bench.workload import Request, Workload, unseen
from genkan.engine.config import EngineConfig
from genkan.engine.model_runner import ModelRunner

BATCHES = (1, 8, 32)
PROMPT_TOKENS = 64
PREFILL_TOKENS = 1_024
NEW_TOKENS = 64
QUICK_NEW_TOKENS = 32  # enough that the first of 32 sequences still decodes when the last begins

Decode = Callable[[list[list[int]], int], list[list[float]]]


def decode(engine: load.Generates, prompts: list[list[int]], new_tokens: int) -> list[list[float]]:
    """When each token of each prompt came, all prompts at once and none of them in the prefix cache."""
    requests = unseen([Request(prompt, new_tokens) for prompt in prompts])
    return [each.token_s for each in asyncio.run(load.together(engine, requests))]


def prefill(engine: load.Generates, prompt: list[int]) -> float:
    """Seconds to the first token of a prompt that is not in the prefix cache."""
    [request] = unseen([Request(prompt, output_tokens=1)])
    return asyncio.run(load.answer(engine, request)).ttft_s


def decode_rounds(arms: Mapping[str, Decode], batch: int, new_tokens: int, rounds: int) -> Rounds:
    """``tok_s`` of every arm that can run; one warm-up each, which is not counted."""
    prompts = [Workload(batch + index).prompt(PROMPT_TOKENS) for index in range(batch)]
    able: dict[str, Arm] = {}
    for name, arm in arms.items():
        try:
            arm(prompts, QUICK_NEW_TOKENS)
        except CannotRun as error:
            print(f"{name} cannot run at batch {batch}: {error}")
            continue
        able[name] = partial(_rate, arm, prompts, new_tokens)
    return interleaved(f"decode, batch {batch}", able, rounds)


def _rate(arm: Decode, prompts: list[list[int]], new_tokens: int) -> Mapping[str, float]:
    return {"tok_s": decode_rate(arm(prompts, new_tokens))}


def prefill_rounds(arms: Mapping[str, Callable[[list[int]], float]], rounds: int) -> Rounds:
    """``tok_s`` of every arm on one prompt of 1,024 tokens; one warm-up each, which is not counted."""
    prompt = Workload(0).prompt(PREFILL_TOKENS)
    for arm in arms.values():
        arm(prompt)
    timed: dict[str, Arm] = {
        name: lambda arm=arm: {"tok_s": PREFILL_TOKENS / arm(prompt)} for name, arm in arms.items()
    }
    return interleaved("prefill of 1,024 tokens", timed, rounds)


def medians(rounds: Rounds, arms: list[str]) -> dict[str, float | None]:
    """Tokens a second of each arm; None for one that could not run."""
    return {arm: rounds.median(arm, "tok_s") if arm in rounds.arms else None for arm in arms}


def print_ratios(title: str, rounds: Rounds) -> None:
    """genkan against every other arm that ran."""
    for other in [arm for arm in rounds.arms if arm != "genkan"]:
        print(f"{title}: genkan / {other} = {rounds.ratio('tok_s', 'genkan', other)}")


@benchmark(default_rounds=5)
def main(options: Options) -> None:
    """Decode at batch 1, 8 and 32, prefill of 1,024 tokens, and cold start, against transformers."""
    config = EngineConfig(profile=options.profile)
    cold = interleaved("cold start", {"genkan": lambda: {"s": cold_start.measure_s(options.profile)}}, options.rounds)
    new_tokens = QUICK_NEW_TOKENS if options.quick else NEW_TOKENS
    reference = Transformers(config.model)
    with load.serving(ModelRunner(config), config) as engine:
        arms: dict[str, Decode] = {
            "genkan": partial(decode, engine),
            "transformers": reference.decode,
            "transformers_cb": reference.decode_continuously,
        }
        decoded = {str(batch): decode_rounds(arms, batch, new_tokens, options.rounds) for batch in BATCHES}
        filled = prefill_rounds({"genkan": partial(prefill, engine), "transformers": reference.prefill}, options.rounds)
    result = {
        "decode": {batch: medians(rounds, list(arms)) for batch, rounds in decoded.items()},
        "prefill_1k": medians(filled, ["genkan", "transformers"]),
        "cold_start_s": cold.median("genkan", "s"),
    }
    print(report.table("Decode by batch, tokens/s, medians", result["decode"]))
    for batch, rounds in decoded.items():
        print_ratios(f"decode, batch {batch}", rounds)
    print(report.table("Prefill of 1,024 tokens, tokens/s, medians", {"": result["prefill_1k"]}))
    print_ratios("prefill", filled)
    report.bars(options.out / "decode.png", f"Decode, {options.profile}", "tokens/s", result["decode"])
    report.bars(options.out / "prefill.png", f"Prefill, {options.profile}", "tokens/s", {"1,024": result["prefill_1k"]})
    report.finish(options.out, "engine", result)


if __name__ == "__main__":
    main()
