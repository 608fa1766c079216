"""What clients see of a served genkan, as `genkan bench` measures it: ``python -m genkan.bench.served``.

Streams through the gateway at a rate that it easily bears; the same questions with stored answers and without; and the
embedded engine with its prefix cache and without. A fake upstream takes 50 ms to a whole answer and 10 ms to each event
of a stream, so that what the gateway adds shows. Prints tables and, as the last line, one JSON object.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import uvloop

from genkan.bench import report
from genkan.bench.chat_traffic import MODEL
from genkan.bench.client import tables
from genkan.bench.client.figures import Objective
from genkan.bench.client.preflight import CannotMeasure
from genkan.bench.client.prompts import PREFIXES, STORED, Prompts
from genkan.bench.client.run import Load, Plan, Run
from genkan.bench.client.target import parse_target
from genkan.bench.cores import Cores, divide, pinned
from genkan.bench.gateway_arms import genkan_command
from genkan.bench.server_process import Command, ServerFailed, ServerProcess, interruptible, running
from genkan.clock import SystemClock

ANSWER_S, EVENT_S = 0.05, 0.01
_QUICK = 5  # times fewer requests
_PRICES = {"prices": {"models": [{"model": MODEL, "input": 2, "output": 8}]}}
_READY = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
_BENTOML = str(Path(sys.executable).with_name("bentoml"))

Measured = Mapping[str, Any]


def through_the_gateway(cores: Cores, quick: bool) -> Iterator[tuple[str, Measured]]:
    """Streams, and stored answers, in front of a fake upstream. Raises ServerFailed and CannotMeasure."""
    scale = _QUICK if quick else 1
    with _gateway(cores) as server:
        steady = Load(rate=50.0, requests=2_000 // scale)
        objective = Objective(ttft_s=0.05, itl_s=0.05)
        title = f"Streams, the upstream's events {1e3 * EVENT_S:g} ms apart, its second the first token"
        yield "streams", _measured(title, server, Prompts(languages=("en", "vi", "ko")), steady, objective)
        pairs = Load(concurrency=8, requests=2_000 // scale)
        title = "The same 40 questions cached and not"
        yield "stored", _measured(title, server, Prompts(questions=40, arms=STORED), pairs, objective)


def of_the_engine(cores: Cores, quick: bool) -> Iterator[tuple[str, Measured]]:
    """The embedded engine behind the default configuration. Raises as ``through_the_gateway`` does."""
    line = [_BENTOML, "serve", ".", "--host", "127.0.0.1", "--port", "{port}"]
    with running(Command("genkan", line), cores.server | cores.load) as server:
        server.wait_until_answered(_READY)
        prompts = Prompts(prefixes=4, prefix_tokens=512, max_tokens=16, arms=PREFIXES)
        load = Load(requests=100 // (_QUICK if quick else 1))
        yield "prefix", _measured("Four system prompts, the embedded engine", server, prompts, load, Objective())


@contextmanager
def _gateway(cores: Cores) -> Iterator[ServerProcess]:
    line = [sys.executable, "-m", "genkan.bench.slow_upstream", "{port}", str(ANSWER_S), str(EVENT_S)]
    with running(Command("the fake upstream", line), cores.load) as upstream:
        command = genkan_command("genkan", f"http://127.0.0.1:{upstream.port}", _PRICES)
        with running(command, cores.server) as server:
            server.wait_until_answered(_READY)
            yield server


def _measured(title: str, server: ServerProcess, prompts: Prompts, load: Load, objective: Objective) -> Measured:
    print(f"{title}: {load}", file=sys.stderr, flush=True)
    run = Run(
        Plan(
            target=parse_target(f"http://127.0.0.1:{server.port}"),
            prompts=prompts,
            model=None,
            load=load,
            objective=objective,
            timeout_s=60.0,
            warm_up=20,
            key_env="",
            command="",
        ),
        SystemClock(),
    )
    uvloop.run(run.make())
    result = run.result()
    if result["error_rate"]:
        raise CannotMeasure(tables.text(result))
    return {"title": title, **{name: result[name] for name in ("load", "arms", "client")}}


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help=f"A {_QUICK}th of the requests.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="bench/out", show_default=True)
def main(quick: bool, out: Path) -> None:
    """Measure all, print it, keep it."""
    cores = divide()
    try:
        with interruptible(), pinned(cores.load):
            result = {**dict(through_the_gateway(cores, quick)), **dict(of_the_engine(cores, quick))}
    except (ServerFailed, CannotMeasure) as error:
        raise click.ClickException(str(error)) from None
    for found in result.values():
        print(tables.text({"url": found["title"], **found}), end="\n\n")
    report.finish(out, "served", result)


if __name__ == "__main__":
    main()
