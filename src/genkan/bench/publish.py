"""Measures, and writes what came of it into ``docs/benchmarks.md`` and, in short, into the README: `make report`.

What is measured is kept in ``docs/measured`` with the command, the machine and the commit. Both pages are made of that
alone, so to make them again changes nothing.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import click

from genkan.bench import headlines, measured, page, report, sections
from genkan.bench.machine import machine
from genkan.bench.measured import Measurement
from genkan.bench.server_process import ROOT

DOC, README = ROOT / "docs/benchmarks.md", ROOT / "README.md"
KEPT, IMAGES = ROOT / "docs/measured", ROOT / "docs/img"
_TIMEOUT_S = 3600.0
_TAIL = 2_000  # characters of what a benchmark said before it failed


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A module of this package, and its arguments in short. Without ``is_quick`` only a full report measures it."""

    name: str
    brief: Sequence[str]
    is_quick: bool = True

    def arguments(self, *, full: bool) -> Sequence[str]:
        return () if full else self.brief


# One round each is short enough, and still measures; the benchmarks' own --quick measures nothing.
BENCHMARKS = (
    Benchmark("gateway", ("--rounds", "1")),
    Benchmark("served", ("--quick",)),
    Benchmark("hedge", ("--rounds", "1")),
    Benchmark("cache", ("--rounds", "1", "--entries", "10000")),
    Benchmark("affinity", ("--quick",), is_quick=False),
    Benchmark("prefix", ("--rounds", "1"), is_quick=False),
    Benchmark("engine", ("--rounds", "1"), is_quick=False),
)


def measure(benchmark: Benchmark, about: Mapping[str, str], *, full: bool) -> Measurement:
    """Run it in a process of its own. Raises RuntimeError with the end of what it said when it fails."""
    arguments = benchmark.arguments(full=full)
    line = [sys.executable, "-m", f"genkan.bench.{benchmark.name}", *arguments]
    ended = subprocess.run(  # noqa: S603 - our own modules
        line, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=_TIMEOUT_S, check=False
    )
    try:
        if ended.returncode == 0:
            return Measurement(_command(benchmark.name, arguments), about, json.loads(ended.stdout.splitlines()[-1]))
    except (ValueError, IndexError):
        pass
    raise RuntimeError(f"{benchmark.name} ended with {ended.returncode}: {ended.stdout[-_TAIL:]}")


def publish(doc: Path, readme: Path, kept: Path, images: Path) -> None:
    """Make both pages anew of what is in ``kept``. Raises KeyError for a measurement that a page has no place for."""
    measurements = measured.read(kept)
    doc.write_text(rendered(doc.read_text(encoding="utf-8"), measurements), encoding="utf-8")
    readme.write_text(summarised(readme.read_text(encoding="utf-8"), measurements), encoding="utf-8")
    with redirect_stdout(sys.stderr):
        for name, measurement in measurements.items():
            for plot in sections.plots(name, measurement.result):
                report.bars(images / f"{plot.name}.png", plot.title, plot.unit, plot.groups)


def rendered(text: str, measurements: Mapping[str, Measurement]) -> str:
    """``text`` with every measurement in its place."""
    for name, measurement in measurements.items():
        text = page.filled(text, name, sections.section(name, measurement))
    return text


def summarised(text: str, measurements: Mapping[str, Measurement]) -> str:
    """``text``, the README's, with the few figures that stand there."""
    return page.filled(text, headlines.PLACE, headlines.headlines(measurements))


def _command(name: str, arguments: Sequence[str]) -> str:
    return " ".join(["make", f"bench-{name}", *([f'ARGS="{" ".join(arguments)}"'] if arguments else [])])


@click.command()
@click.option("--full", is_flag=True, help="Every benchmark, as it is by default.")
@click.option("--only", "names", type=click.Choice(sections.NAMES), multiple=True, help="This one; may be repeated.")
@click.option("--from", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Take results.")
@click.option("--no-run", is_flag=True, help="Measure nothing: make both pages again of what is kept.")
def main(full: bool, names: tuple[str, ...], folder: Path | None, no_run: bool) -> None:
    """Measure, keep the results in docs/measured, and write docs/benchmarks.md, docs/img and the README's figures."""
    chosen = [one for one in BENCHMARKS if (one.name in names if names else full or one.is_quick)]
    failed = []
    about = machine()  # now: later its load is our own
    for benchmark in [] if no_run else chosen:
        began_s = time.monotonic()
        try:
            if folder is None:
                measurement = measure(benchmark, about, full=full)
            elif (path := folder / f"{benchmark.name}.json").exists():
                measurement = measured.taken_from(path, about)
            else:
                continue
        except (RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
            click.echo(f"error: {error}", err=True)
            failed.append(benchmark.name)
            continue
        measured.write(KEPT, benchmark.name, measurement)
        click.echo(f"{benchmark.name}: {time.monotonic() - began_s:.0f} s", err=True)
    publish(DOC, README, KEPT, IMAGES)
    click.echo(json.dumps({"report": str(DOC.relative_to(ROOT)), "failed": failed}))
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
