"""The experiments on one loaded model: what is compared with what, on how many requests."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from genkan.bench import batching, caching, load
from genkan.bench.rounds import Rounds, interleaved
from genkan.bench.workload import SYSTEM_TOKENS, Workload, slot_steps
from genkan.engine.config import EngineConfig
from genkan.engine.model_runner import ModelRunner

SEED = 1
DECODING = 8  # sequences that a long prompt disturbs


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many requests of how many tokens each experiment has."""

    shared: int = 200
    system_prompt: int = SYSTEM_TOKENS
    shared_output: int = 16
    unique: int = 64
    unique_prompt: int = 512
    turn: int = caching.TURN_TOKENS
    mixed: int = 64
    mixed_mean: float = 64
    mixed_longest: int = 256
    clients: int = 32
    serial: int = 8
    output: int = 64
    long_prompt: int = 2_048


QUICK = Sizes(
    shared=40,
    system_prompt=96,
    shared_output=2,
    unique=8,
    unique_prompt=96,
    turn=16,
    mixed=16,
    mixed_mean=8,
    mixed_longest=16,
    serial=2,
    output=16,
    long_prompt=512,
)


@dataclass(frozen=True, slots=True)
class Experiments:
    """Runs each on an engine of its own, one engine at a time. Every arm begins with nothing cached."""

    runner: ModelRunner
    config: EngineConfig
    sizes: Sizes
    rounds: int

    def shared(self) -> Rounds:
        """``on`` against ``off`` (a namespace a request), after 20 system prompts."""
        size = self.sizes
        requests = Workload(SEED).shared(
            size.shared, system_tokens=size.system_prompt, output_tokens=size.shared_output
        )
        with load.serving(self.runner, self.config) as engine:
            arms = {
                "on": partial(caching.shared, engine, requests),
                "off": partial(caching.salted, engine, requests),
            }
            return interleaved("shared system prompts", arms, self.rounds)

    def unique(self) -> Rounds:
        """``on`` against ``off``, the cache's code left out, where there is nothing to share."""
        size = self.sizes
        requests = Workload(SEED).unique(size.unique, prompt_tokens=size.unique_prompt, output_tokens=16)

        def arm(prefix_cache: bool) -> Mapping[str, float]:
            config = self.config.model_copy(update={"prefix_cache": prefix_cache})
            with load.serving(self.runner, config) as engine:
                return caching.unique(engine, requests)

        return interleaved("nothing shared", {"on": partial(arm, True), "off": partial(arm, False)}, self.rounds)

    def chats(self) -> Rounds:
        """Chats of six turns; once, for what they find does not depend on time."""
        with load.serving(self.runner, self.config) as engine:
            return interleaved("chats", {"on": partial(caching.chats, engine, turn_tokens=self.sizes.turn)}, 1)

    def mixed_lengths(self) -> Rounds:
        """``continuous`` against ``static``, on outputs of exponential length."""
        size = self.sizes
        requests = Workload(SEED).exponential(
            size.mixed, prompt_tokens=64, mean=size.mixed_mean, longest=size.mixed_longest
        )
        bound = slot_steps([request.output_tokens for request in requests], batching.SLOTS)
        print(f"continuous / static, were every step equally long: {bound:.2f}")
        config = self.config.model_copy(update={"max_sequences": batching.SLOTS})
        with load.serving(self.runner, config) as engine:
            arms = {
                "continuous": partial(batching.continuous, engine, requests),
                "static": partial(batching.static, engine, requests),
            }
            return interleaved("exponential lengths", arms, self.rounds)

    def many_clients(self) -> Rounds:
        """``concurrent``, 32 clients, against ``serial``, one."""
        size = self.sizes
        requests = Workload(SEED).unique(size.clients, prompt_tokens=32, output_tokens=size.output)
        with load.serving(self.runner, self.config) as engine:
            arms = {
                "concurrent": partial(batching.concurrent, engine, requests),
                "serial": partial(batching.serial, engine, requests[: size.serial]),
            }
            return interleaved("many clients", arms, self.rounds)

    def long_prompt(self, gaps_s: dict[str, list[float]]) -> Rounds:
        """``chunked`` against ``whole``; every gap of every round goes into ``gaps_s``."""
        requests = Workload(SEED).unique(DECODING, prompt_tokens=64, output_tokens=self.sizes.output)
        long = Workload(SEED + 1).unique(1, prompt_tokens=self.sizes.long_prompt, output_tokens=1)[0]

        def arm(name: str, chunked_prefill: bool) -> Mapping[str, float]:
            config = self.config.model_copy(update={"chunked_prefill": chunked_prefill})
            with load.serving(self.runner, config) as engine:
                gaps, late = batching.disturbed(engine, requests, long)
            gaps_s.setdefault(name, []).extend(gaps)
            return {**batching.gap_figures(gaps), "ttft_ms": 1e3 * late.ttft_s}

        arms = {"chunked": partial(arm, "chunked", True), "whole": partial(arm, "whole", False)}
        return interleaved("a long prompt", arms, self.rounds)
