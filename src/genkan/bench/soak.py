"""What only shows after a long time or under a great load: ``python -m genkan.bench.soak``. Half an hour in all."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import click

from genkan.bench import idle_streams, overload, report, soak_memory
from genkan.bench.bars import Soaked, table
from genkan.bench.cores import Cores, divide, pinned
from genkan.bench.http_answer import WrongAnswer
from genkan.bench.server_process import ServerFailed, interruptible


@dataclass(frozen=True, slots=True)
class Size:
    """How much of each."""

    requests: int
    streams: int
    overload: overload.Times
    event_s: float = idle_streams.EVENT_S


FULL: Final = Size(requests=500_000, streams=2_000, overload=overload.Times())
QUICK: Final = Size(requests=5_000, streams=200, overload=overload.Times(capacity_s=2.0, overload_s=5.0), event_s=0.6)

Soak = Callable[[Cores, Size], Soaked]


def _idle_streams(cores: Cores, size: Size) -> Soaked:
    return idle_streams.soak(cores, size.streams, size.event_s)


def _overload(bottleneck: overload.Bottleneck, cores: Cores, size: Size) -> Soaked:
    return overload.soak(cores, size.overload, bottleneck)


def _memory(cores: Cores, size: Size) -> Soaked:
    return soak_memory.soak(cores, size.requests)


SOAKS: Final[Mapping[str, Soak]] = {
    "idle-streams": _idle_streams,
    **{f"overload-{bottleneck.name}": partial(_overload, bottleneck) for bottleneck in overload.BOTTLENECKS},
    "memory": _memory,
}


def _chosen(only: tuple[str, ...]) -> dict[str, Soak]:
    """Those that ``only`` names, or names the beginning of; all without it."""
    return {name: soak for name, soak in SOAKS.items() if not only or name.startswith(only)}


def _soaked(chosen: Mapping[str, Soak], size: Size) -> list[Soaked]:
    """One after the other. Raises ServerFailed and WrongAnswer."""
    cores = divide()
    done = []
    with interruptible(), pinned(cores.load):
        for name, soak in chosen.items():
            print(f"{name} …", file=sys.stderr, flush=True)
            done.append(soak(cores, size))
    return done


@click.command()
@click.option("--only", multiple=True, help="A soak, or how the names of several begin; may be repeated.")
@click.option("--requests", type=click.IntRange(min=1_000), help=f"Of `memory`; {FULL.requests:,} if not given.")
@click.option("--quick", is_flag=True, help="All at a small scale: shows that it works, measures nothing.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="bench/out", show_default=True)
def main(only: tuple[str, ...], requests: int | None, quick: bool, out: Path) -> None:
    """Hold idle streams, overload the gateway, and make very many requests; fails where a bar is missed."""
    size = QUICK if quick else FULL
    if requests is not None:
        size = Size(requests, size.streams, size.overload, size.event_s)
    chosen = _chosen(only)
    if not chosen:
        raise click.UsageError(f"no soak is called so; there are {', '.join(SOAKS)}")
    try:
        done = _soaked(chosen, size)
    except (ServerFailed, WrongAnswer) as error:
        raise click.ClickException(str(error)) from None
    print(table(done))
    report.finish(out, "soak", {soaked.name: {**soaked.figures, "is_met": soaked.is_met} for soaked in done})
    if not all(soaked.is_met for soaked in done):
        sys.exit(1)


if __name__ == "__main__":
    main()
