"""Which core serves and which one loads, so that a benchmark of a server does not measure its own load."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import click


class Cores(NamedTuple):
    """The cores of the server under test, and those of the load and the upstream."""

    server: frozenset[int]
    load: frozenset[int]


def divide() -> Cores:
    """One core each, of those this process may use; with one only both share it, and a warning says so."""
    ours = sorted(os.sched_getaffinity(0))
    if len(ours) == 1:
        click.echo(
            "warning: one core only, so the load takes from the server what it needs. Ratios between servers are "
            "closer to 1 than they would be, and absolute figures mean nothing.",
            err=True,
        )
        return Cores(frozenset(ours), frozenset(ours))
    return Cores(frozenset(ours[:1]), frozenset(ours[1:2]))


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Keep this thread, and every process it starts meanwhile, on ``cores``."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
