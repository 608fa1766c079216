"""The options both benchmarks take."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from genkan.engine.config import Profile

IDLE_LOAD = 0.5  # processes that want to run, on average over a minute


@dataclass(frozen=True, slots=True)
class Options:
    """How much to measure, on which of the engine's profiles, and where the plots and the JSON go."""

    quick: bool
    rounds: int
    profile: Profile
    out: Path


def benchmark(default_rounds: int) -> Callable[[Callable[[Options], None]], click.Command]:
    """Make a command of a function of Options. ``--quick`` is one round unless ``--rounds`` says otherwise."""

    def decorate(run: Callable[[Options], None]) -> click.Command:
        @click.command(help=run.__doc__)
        @click.option("--quick", is_flag=True, help="Few tokens and one round: shows that it works, measures nothing.")
        @click.option(
            "--rounds", type=click.IntRange(min=1), help=f"Rounds of every arm; {default_rounds} if not given."
        )
        @click.option("--profile", type=click.Choice(["fast", "exact"]), default="fast", show_default=True)
        @click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="bench/out", show_default=True)
        def command(quick: bool, rounds: int | None, profile: Profile, out: Path) -> None:
            _warn_if_busy()
            run(Options(quick, rounds or (1 if quick else default_rounds), profile, out))

        return command

    return decorate


def _warn_if_busy() -> None:
    load = os.getloadavg()[0]
    if load > IDLE_LOAD:
        click.echo(
            f"warning: other processes keep this machine busy (load {load:.1f}). Arms that wait for all their threads "
            "at every step, as transformers does, lose most by it: do not compare these figures.",
            err=True,
        )
