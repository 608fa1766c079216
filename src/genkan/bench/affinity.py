"""What sending prompts where their beginning is known is worth: ``python -m genkan.bench.affinity``.

Four replicas, each with a quarter of the room, against one cache with all of it. What is measured is the gateway's own
chain; the replicas are the engine's prefix cache in virtual time. Ends with 1 if affinity reaches less than 90 % of the
single cache's hit rate, or one replica has more than 1.25 times the mean of the work or of the requests in flight,
under traffic that the caches have room for.
"""

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from genkan.bench import report
from genkan.bench.affinity_replicas import Outcome, Replica, run
from genkan.bench.affinity_traffic import Traffic, Turn, turns
from genkan.config import AffinityConfig, BreakerConfig, RouteConfig
from genkan.errors import ConnectFailed
from genkan.gateway.affinity import Affinity
from genkan.gateway.breaker import Breaker, MemoryCircuits
from genkan.gateway.chain import Chain
from genkan.gateway.deployment import Deployment
from genkan.gateway.prompt_start import By
from genkan.gateway.standing import UpstreamStanding
from genkan.upstream.base import NO_CALL, Answer, Call, Way
from genkan.wire.chat import GenerationRequest
from genkan.wire.said import Said

MODEL = "chat"
REPLICAS = 4
SEED = 1
LEAST_OF_ONE = 0.9  # of the single cache's hit rate
MOST_IMBALANCE = 1.25
CHATS, QUICK_CHATS = 3000, 600  # of each kind
#: The kinds of traffic for which affinity is measured against these; the others show where it has less to give.
BOUND = ("usual", "quiet")


class Unasked:
    """An upstream that has a name: here nobody is asked anything."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def respond(self, request: GenerationRequest, model: str, *, total_s: float, call: Call = NO_CALL) -> Answer:
        raise ConnectFailed("there is nobody", upstream=self.name)

    def way_on(self, request: GenerationRequest, said: Said) -> Way:
        return "replay"

    async def count_tokens(self, request: GenerationRequest, model: str, *, limit_s: float) -> int | None:
        return None


class Gateway:
    """A chain of one model's replicas, which is asked who gets each request and nothing more."""

    def __init__(self, affinity: AffinityConfig | None, by: By = "chat", replicas: int = REPLICAS) -> None:
        self.places = [_deployment(f"replica-{number}") for number in range(replicas)]
        self._index = {place.name: index for index, place in enumerate(self.places)}
        affinities = {} if affinity is None else {MODEL: Affinity(affinity, self.places, by)}
        config = RouteConfig(alias=MODEL, chain=[MODEL])
        uniform = random.Random(SEED).random  # noqa: S311 - repeatable is what is wanted
        self.chain = Chain(config, [self.places], uniform, affinities=affinities)

    def choose(self, turn: Turn, now_s: float) -> int:
        """The number of the replica that is asked first."""
        return self._index[self.chain.order(turn.request, turn.tenant, now_s)[0].name]

    def moved(self, replica: int, by: int) -> None:
        """So many more are in flight there."""
        self.places[replica].in_flight += by


def compared(told: Sequence[Turn], tokens: int, affinity: AffinityConfig) -> dict[str, Outcome]:
    """Each way of choosing, by its name, where all replicas together have room for so many tokens."""
    outcomes = {"one cache": run(told, [Replica(tokens)], lambda turn, now_s: 0)}
    for name, gateway in (
        ("by weight", Gateway(None)),
        ("system prompt", Gateway(affinity, "system")),
        ("affinity", Gateway(affinity)),
    ):
        replicas = [Replica(tokens // REPLICAS) for _ in range(REPLICAS)]
        outcomes[name] = run(told, replicas, gateway.choose, gateway.moved)
    return outcomes


def is_good(outcomes: dict[str, Outcome]) -> bool:
    affinity = outcomes["affinity"]
    return (
        affinity.hit_rate >= LEAST_OF_ONE * outcomes["one cache"].hit_rate
        and max(affinity.work_imbalance, affinity.in_flight_imbalance) <= MOST_IMBALANCE
    )


def _deployment(name: str) -> Deployment:
    upstream = Unasked(name)
    breaker = Breaker(f"{MODEL}@{name}", BreakerConfig(), MemoryCircuits())
    return Deployment(MODEL, MODEL, 1, None, upstream, breaker, UpstreamStanding())


@click.command()
@click.option("--quick", is_flag=True, help=f"{QUICK_CHATS} chats of each kind, if no number is given.")
@click.option("--chats", type=click.IntRange(min=1), help=f"Of each kind; {CHATS} if not given.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--load-factor", type=float, default=AffinityConfig().load_factor, show_default=True)
@click.option("--prefix-bytes", type=int, default=AffinityConfig().prefix_bytes, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="bench/out", show_default=True)
def main(quick: bool, chats: int | None, seed: int, load_factor: float, prefix_bytes: int, out: Path) -> None:
    """Serve several kinds of traffic, each by four ways of choosing a replica."""
    affinity = AffinityConfig(prefix_bytes=prefix_bytes, load_factor=load_factor)
    result: dict[str, Mapping[str, Mapping[str, float]]] = {}
    good = True
    for name, (traffic, tokens) in kinds(chats or (QUICK_CHATS if quick else CHATS)).items():
        told = turns(traffic, seed)
        outcomes = compared(told, tokens, affinity)
        result[name] = {way: asdict(outcome) for way, outcome in outcomes.items()}
        click.echo(report.table(f"{name}: {len(told)} requests", result[name]) + "\n")
        good &= name not in BOUND or is_good(outcomes)
    report.finish(out, "affinity", result)
    sys.exit(0 if good else 1)


def kinds(chats: int) -> dict[str, tuple[Traffic, int]]:
    """Traffic, and the tokens that all caches together have room for."""
    rare = Traffic(chats, 6.0, system_prompts=1000, zipf=0.9, tenants=300, turns=(1, 1))
    return {
        "usual": (Traffic(chats), 1 << 19),
        "little room": (Traffic(chats), 1 << 18),
        "quiet": (Traffic(chats, chats_per_s=0.3), 1 << 18),
        "one key": (Traffic(chats, zipf=6.0, greeted=0.9), 1 << 19),
        "rare system prompts, single turns": (rare, 1 << 19),
    }


if __name__ == "__main__":
    main()
