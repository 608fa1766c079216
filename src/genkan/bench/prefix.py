"""The prefix cache and the scheduler, each with and without: ``python -m genkan.bench.prefix``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from genkan.bench import report
from genkan.bench.experiments import QUICK, Experiments, Sizes
from genkan.bench.options import Options, benchmark
from genkan.bench.rounds import Rounds
from genkan.engine.config import EngineConfig
from genkan.engine.model_runner import ModelRunner


@dataclass(frozen=True, slots=True)
class Outcome:
    """What each experiment measured."""

    shared: Rounds
    unique: Rounds
    chats: Rounds
    mixed: Rounds
    clients: Rounds
    chunked: Rounds

    def tables(self) -> str:
        """The medians of every arm, and the ratios with their spread."""
        return "\n\n".join(
            [
                _table("System prompts shared", self.shared, "rps", "ttft_p50_ms", "hit_rate", "tokens_saved"),
                f"on / off: {self.shared.ratio('rps', 'on', 'off')}",
                _table("Nothing shared", self.unique, "rps", "ttft_p50_ms", "cpu_s"),
                f"CPU time, on / off: {self.unique.ratio('cpu_s', 'on', 'off')}",
                _table("Six-turn chats", self.chats, "reused"),
                _table("Outputs of exponential length, 8 slots", self.mixed, "tok_s", "short_p50_s"),
                f"continuous / static: {self.mixed.ratio('tok_s', 'continuous', 'static')}",
                _table("Short prompts", self.clients, "tok_s"),
                f"concurrent / serial: {self.clients.ratio('tok_s', 'concurrent', 'serial')}",
                _table("A long prompt comes", self.chunked, "p50_ms", "p99_ms", "max_ms", "p99_over_p50", "ttft_ms"),
            ]
        )

    def summary(self) -> dict[str, Any]:
        """The medians by the names that the README and CI know."""
        mixed, clients, chunked, unique = self.mixed, self.clients, self.chunked, self.unique
        return {
            "shared": {
                **_on_off(self.shared, "rps", "ttft_p50_ms"),
                "hit_rate": self.shared.median("on", "hit_rate"),
                "tokens_saved": self.shared.median("on", "tokens_saved"),
            },
            "unique": {
                **_on_off(unique, "rps", "cpu_s"),
                "cpu_cost": unique.ratio("cpu_s", "on", "off").of_medians - 1,
            },
            "chat": {"reused": self.chats.median("on", "reused")},
            "continuous_vs_static": mixed.ratio("tok_s", "continuous", "static").of_medians,
            "short_p50_latency_drop": 1 - mixed.ratio("short_p50_s", "continuous", "static").of_medians,
            "concurrent_vs_serial": clients.ratio("tok_s", "concurrent", "serial").of_medians,
            "chunked": {
                "itl_p50_ms": chunked.median("chunked", "p50_ms"),
                "itl_p99_over_p50": chunked.median("chunked", "p99_over_p50"),
                "itl_p99_over_p50_off": chunked.median("whole", "p99_over_p50"),
            },
        }


def _on_off(rounds: Rounds, *metrics: str) -> dict[str, float]:
    return {f"{metric}_{arm}": rounds.median(arm, metric) for metric in metrics for arm in ("on", "off")}


def _table(title: str, rounds: Rounds, *metrics: str) -> str:
    return report.table(title, {arm: {name: rounds.median(arm, name) for name in metrics} for arm in rounds.arms})


def _gaps_ms(gaps_s: dict[str, list[float]]) -> dict[str, Sequence[float]]:
    return {arm: [1e3 * gap for gap in gaps] for arm, gaps in gaps_s.items()}


@benchmark(default_rounds=3)
def main(options: Options) -> None:
    """The prefix cache on and off, continuous and static batching, many clients and one, chunked prefill and whole."""
    config = EngineConfig(profile=options.profile)
    experiments = Experiments(ModelRunner(config), config, QUICK if options.quick else Sizes(), options.rounds)
    gaps_s: dict[str, list[float]] = {}
    outcome = Outcome(
        experiments.shared(),
        experiments.unique(),
        experiments.chats(),
        experiments.mixed_lengths(),
        experiments.many_clients(),
        experiments.long_prompt(gaps_s),
    )
    print(outcome.tables())
    rates = {
        "system prompts shared": {arm: outcome.shared.median(arm, "rps") for arm in ("on", "off")},
        "nothing shared": {arm: outcome.unique.median(arm, "rps") for arm in ("on", "off")},
    }
    report.bars(options.out / "prefix.png", f"Prefix cache, profile {options.profile}", "requests/s", rates)
    report.shares(options.out / "chunked.png", "A long prompt comes", "gap between tokens, ms", _gaps_ms(gaps_s))
    report.finish(options.out, "prefix", outcome.summary())


if __name__ == "__main__":
    main()
