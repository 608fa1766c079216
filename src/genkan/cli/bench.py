"""``genkan bench``: load on any server with OpenAI's API, and what came of it."""

import math
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from genkan.bench.client.figures import Objective
    from genkan.bench.client.prompts import Prompts
    from genkan.bench.client.run import Load, Plan

# What a run needs is imported when there is one: `genkan --help` must not load numpy.
_REQUESTS = 100


class _Number(click.FloatRange):
    """As FloatRange, which takes nan for a number in any range, and inf for one without an end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return found


_POSITIVE = _Number(min=0, min_open=True)
_COUNT = click.IntRange(min=1)


@click.command()
@click.argument("url", default="http://127.0.0.1:3000")
@click.option("--path", help="Ask this path instead of /v1/chat/completions, such as /call.")
@click.option("--model", help="Model or alias; `default` where the server has that, else the first of its list.")
@click.option("--api-key-env", default="GENKAN_API_KEY", show_default=True, help="Variable that has the API key.")
@click.option("--rate", type=_POSITIVE, help="Open loop: requests a second, due whatever the server does.")
@click.option("--arrivals", type=click.Choice(["poisson", "constant"]), help="Of an open loop; poisson if not given.")
@click.option("--concurrency", type=_COUNT, help="Closed loop: clients that wait for their answers; 1 if not given.")
@click.option("--requests", type=_COUNT, help=f"End after so many; {_REQUESTS} without --duration.")
@click.option("--duration", "duration_s", type=_POSITIVE, help="End after so many seconds.")
@click.option(
    "--stream/--no-stream", default=True, show_default=True, help="A whole answer has an end-to-end time only."
)
@click.option("--prefixes", type=click.IntRange(min=0), default=0, show_default=True, help="Different system prompts.")
@click.option("--prefix-tokens", type=_COUNT, default=512, show_default=True, help="Rough length of each of these.")
@click.option("--prompt-tokens", type=_COUNT, default=32, show_default=True, help="Rough length of a question.")
@click.option("--max-tokens", type=_COUNT, default=32, show_default=True, help="Of an answer.")
@click.option("--questions", type=_COUNT, help="Different questions, which repeat; by default all differ.")
@click.option("--languages", default="en", show_default=True, help="Of prompts, in turn: en, vi, ko.")
@click.option("--cached", is_flag=True, help="Each question twice: all caches allowed, and none. genkan only.")
@click.option(
    "--prefix-cached", is_flag=True, help="Each question twice: with the prefix cache, and without. genkan only."
)
@click.option("--slo-ttft-ms", type=_POSITIVE, help="Goodput: first token at the latest after this.")
@click.option("--slo-itl-ms", type=_POSITIVE, help="Goodput: no gap between tokens longer than this.")
@click.option("--slo-tpot-ms", type=_POSITIVE, help="Goodput: the mean time a token at most this.")
@click.option("--slo-e2e-ms", type=_POSITIVE, help="Goodput: the whole answer at the latest after this.")
@click.option("--timeout-s", type=_POSITIVE, default=120.0, show_default=True, help="Of each request.")
@click.option("--warm-up", type=click.IntRange(min=0), default=4, show_default=True, help="Requests that do not count.")
@click.option("--max-error-rate", type=_Number(0, 1), default=0.01, show_default=True, help="Above it, exit 1.")
@click.option("--seed", type=int, help="Two runs with one seed ask and arrive alike; by default no two do.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for the report, its plots and JSON."
)
def bench(url: str, max_error_rate: float, out: Path | None, **options: Any) -> None:
    """Measure the server at URL: time to first token, between tokens, to the end, and goodput.

    Prints a table and, as the last line, one JSON object. Exits with 1 when too many requests fail or the server
    cannot be measured.
    """
    from genkan.bench.client.preflight import CannotMeasure
    from genkan.bench.client.run import run

    plan = _plan(url, options)
    try:
        error_rate = run(plan, out)
    except CannotMeasure as error:
        raise click.ClickException(str(error)) from None
    if error_rate > max_error_rate:
        click.echo(f"error: {error_rate:.1%} of requests failed; allowed: {max_error_rate:.1%}", err=True)
        sys.exit(1)


def _plan(url: str, options: dict[str, Any]) -> "Plan":
    """Raises UsageError for options that contradict each other."""
    from genkan.bench.client.run import Plan
    from genkan.bench.client.target import parse_target

    key_env = options["api_key_env"]
    try:
        target = parse_target(url, options["path"], os.environ.get(key_env))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return Plan(
        target=target,
        prompts=_prompts(options),
        model=options["model"],
        load=_load(options),
        objective=_objective(options),
        timeout_s=options["timeout_s"],
        warm_up=options["warm_up"],
        key_env=key_env,
        command=" ".join(["genkan", *sys.argv[1:]]),
    )


def _load(options: dict[str, Any]) -> "Load":
    from genkan.bench.client.run import Load

    rate, concurrency, requests = options["rate"], options["concurrency"], options["requests"]
    if rate is not None and concurrency is not None:
        raise click.UsageError("--rate (open loop) or --concurrency (closed loop), not both")
    if rate is None and options["arrivals"] is not None:
        raise click.UsageError("--arrivals needs --rate")
    if requests is None and options["duration_s"] is None:
        requests = _REQUESTS
    return Load(rate, options["arrivals"] or "poisson", concurrency or 1, requests, options["duration_s"])


def _prompts(options: dict[str, Any]) -> "Prompts":
    from genkan.bench.client.prompts import LANGUAGES, PLAIN, PREFIXES, STORED, Prompts

    languages = [name.strip() for name in options["languages"].split(",")]
    if unknown := set(languages) - set(LANGUAGES):
        raise click.UsageError(f"--languages knows {', '.join(LANGUAGES)}; given: {', '.join(sorted(unknown))}")
    cached, prefix_cached = options["cached"], options["prefix_cached"]
    if cached and prefix_cached:
        raise click.UsageError("--cached or --prefix-cached, not both")
    # Repeated, or nothing stored would ever be asked for again.
    questions = options["questions"] or (max(1, (options["requests"] or _REQUESTS) // 10) if cached else 0)
    return Prompts(
        stream=options["stream"],
        prefixes=options["prefixes"] or int(prefix_cached),
        prefix_tokens=options["prefix_tokens"],
        prompt_tokens=options["prompt_tokens"],
        max_tokens=options["max_tokens"],
        questions=questions,
        languages=[name for name in LANGUAGES if name in languages],
        arms=STORED if cached else PREFIXES if prefix_cached else PLAIN,
        # Else a second run of the same command would find the answers that the first one left behind.
        seed=secrets.randbelow(10**9) if options["seed"] is None else options["seed"],
    )


def _objective(options: dict[str, Any]) -> "Objective":
    from genkan.bench.client.figures import Objective

    bounds_s = [
        None if (bound := options[f"slo_{name}_ms"]) is None else bound / 1e3 for name in ("ttft", "itl", "tpot", "e2e")
    ]
    if not options["stream"] and any(bound is not None for bound in bounds_s[:3]):
        raise click.UsageError("--no-stream has no times of tokens: only --slo-e2e-ms")
    return Objective(*bounds_s)
