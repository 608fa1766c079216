"""Decode, prefill and cold start against transformers on the same weights: ``python -m genkan.bench.engine``."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from genkan.bench import cold_start, load, report
from genkan.bench.options import Options, benchmark
from genkan.bench.reference import CannotRun, Transformers
from genkan.bench.rounds import Arm, Rounds, interleaved
from genkan.bench.timing import decode_rate
from genkan.bench.workload import Request, Workload, unseen
from genkan.engine.config import EngineConfig
from genkan.engine.model_runner import ModelRunner

BATCHES = (1, 8, 32)
QUICK_BATCHES = (1, 2)
PROMPT_TOKENS = 64
PREFILL_TOKENS = 1_024
QUICK_PREFILL_TOKENS = 128
NEW_TOKENS = 64
QUICK_NEW_TOKENS = 4  # enough that the first of 2 sequences still decodes when the last begins
WARM_UP_TOKENS = 2

DECODE_ARMS = ("genkan", "transformers", "transformers_cb")
PREFILL_ARMS = ("genkan", "transformers")

Decode = Callable[[list[list[int]], int], list[list[float]]]  # when each token of each prompt came
Prefill = Callable[[list[int]], float]  # seconds


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
            arm(prompts, WARM_UP_TOKENS)
        except CannotRun as error:
            print(f"{name} cannot run at batch {batch}: {error}")
            continue
        able[name] = partial(_rate, arm, prompts, new_tokens)
    return interleaved(f"decode, batch {batch}", able, rounds)


def _rate(arm: Decode, prompts: list[list[int]], new_tokens: int) -> Mapping[str, float]:
    return {"tok_s": decode_rate(arm(prompts, new_tokens))}


def prefill_rounds(arms: Mapping[str, Prefill], rounds: int, prompt_tokens: int = PREFILL_TOKENS) -> Rounds:
    """``tok_s`` of every arm on one prompt; one warm-up each, which is not counted."""
    prompt = Workload(0).prompt(prompt_tokens)
    for arm in arms.values():
        arm(prompt)
    timed: dict[str, Arm] = {name: partial(_prefill_rate, arm, prompt) for name, arm in arms.items()}
    return interleaved(f"prefill of {prompt_tokens:,} tokens", timed, rounds)


def _prefill_rate(arm: Prefill, prompt: list[int]) -> Mapping[str, float]:
    return {"tok_s": len(prompt) / arm(prompt)}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured: decoding by batch, prefill, cold start."""

    decode: Mapping[int, Rounds]
    prefill: Rounds
    prefill_tokens: int
    cold_start: Rounds

    def decode_medians(self) -> dict[str, dict[str, float | None]]:
        return {str(batch): _medians(rounds, DECODE_ARMS) for batch, rounds in self.decode.items()}

    def prefill_medians(self) -> dict[str, float | None]:
        return _medians(self.prefill, PREFILL_ARMS)

    def tables(self) -> str:
        """The medians of every arm, and genkan's ratios to the others with their spread."""
        return "\n".join(
            [
                report.table("Decode by batch, tokens/s", self.decode_medians()),
                *(line for batch, rounds in self.decode.items() for line in _ratios(f"batch {batch}", rounds)),
                report.table("\nPrefill, tokens/s", {str(self.prefill_tokens): self.prefill_medians()}),
                *_ratios("prefill", self.prefill),
                f"\nCold start, s: {self.cold_start.median('genkan', 's'):.2f}",
            ]
        )

    def summary(self) -> dict[str, Any]:
        """The medians by the names that the README and CI know; None for an arm that could not run.

        ``prefill_1k`` is of fewer tokens with ``--quick``, which measures nothing.
        """
        return {
            "decode": self.decode_medians(),
            "prefill_1k": self.prefill_medians(),
            "cold_start_s": self.cold_start.median("genkan", "s"),
        }


def _medians(rounds: Rounds, arms: Sequence[str]) -> dict[str, float | None]:
    return {arm: rounds.median(arm, "tok_s") if arm in rounds.arms else None for arm in arms}


def _ratios(title: str, rounds: Rounds) -> list[str]:
    others = [arm for arm in rounds.arms if arm != "genkan"]
    return [f"{title}: genkan / {other} = {rounds.ratio('tok_s', 'genkan', other)}" for other in others]


def measure(options: Options) -> Outcome:
    """Run everything. Raises what loading the model raises."""
    # What prompts do to those that decode is not measured here, so all may be computed at once: soon all decode.
    config = EngineConfig(profile=options.profile, chunk_slowdown=None)
    cold = interleaved("cold start", {"genkan": lambda: {"s": cold_start.measure_s(options.profile)}}, options.rounds)
    new_tokens, batches = (QUICK_NEW_TOKENS, QUICK_BATCHES) if options.quick else (NEW_TOKENS, BATCHES)
    prefill_tokens = QUICK_PREFILL_TOKENS if options.quick else PREFILL_TOKENS
    reference = Transformers(config.model)
    with load.serving(ModelRunner(config), config) as engine:
        decode_arms: dict[str, Decode] = {
            "genkan": partial(decode, engine),
            "transformers": reference.decode,
            "transformers_cb": reference.decode_continuously,
        }
        prefill_arms: dict[str, Prefill] = {"genkan": partial(prefill, engine), "transformers": reference.prefill}
        decoded = {batch: decode_rounds(decode_arms, batch, new_tokens, options.rounds) for batch in batches}
        filled = prefill_rounds(prefill_arms, options.rounds, prefill_tokens)
    return Outcome(decoded, filled, prefill_tokens, cold)


@benchmark(default_rounds=5)
def main(options: Options) -> None:
    """Decode at batch 1, 8 and 32, prefill of 1,024 tokens, and cold start, against transformers."""
    outcome = measure(options)
    print(outcome.tables())
    title = f"profile {options.profile}"
    report.bars(options.out / "decode.png", f"Decode by batch, {title}", "tokens/s", outcome.decode_medians())
    prefills = {str(outcome.prefill_tokens): outcome.prefill_medians()}
    report.bars(options.out / "prefill.png", f"Prefill, {title}", "tokens/s", prefills)
    report.finish(options.out, "engine", outcome.summary())


if __name__ == "__main__":
    main()
