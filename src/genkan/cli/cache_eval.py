"""``genkan cache eval``: what the semantic cache would serve of labelled pairs."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import numpy as np

from genkan.cache.calibrated import MULTILINGUAL_E5_SMALL
from genkan.cache.evaluation.bounds import Share
from genkan.cache.evaluation.compared import Compared, compare
from genkan.cache.evaluation.curve import curves
from genkan.cache.evaluation.report import ALL, LanguageReport, reports
from genkan.cache.evaluation.score_file import read_score
from genkan.cache.score import Score
from genkan.cli.cache_calibrate import read_all
from genkan.cli.cache_plot import in_terminal, to_file
from genkan.cli.cache_vectors import embed_by, embedder_config, vectors_option

_LEAST_SHOWN = 0.1  # of wrong answers: less would show nothing of the cosine


@click.command("eval")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--score", "score_file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What `genkan cache calibrate` wrote; the built-in score, if not given.",
)  # fmt: skip
@click.option(
    "--max-error-rate", type=click.FloatRange(0.0, 0.5), default=0.01, show_default=True,
    help="Wrong answers that are borne, as a share of the pairs that differ.",
)  # fmt: skip
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw it to this file, .png or .svg.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables and plot.")
@vectors_option
def evaluate(
    file: Path,
    score_file: Path | None,
    max_error_rate: float,
    plot: Path | None,
    as_json: bool,
    vectors: tuple[Path, ...],
) -> None:
    """Hits and wrong answers on labelled pairs: CSV (text_a,text_b,same) or JSON lines (a, b, same or same_answer).

    Each pair counts as a question whose near question is stored. Wrong are answers served to pairs that differ. Bounds
    are Clopper and Pearson's, of 95 %. A file that the score was fitted on proves nothing.
    """
    pairs, score = read_all([file]), _score(score_file)
    compared = compare(pairs, embed_by(embedder_config(), vectors))
    found = reports(compared, score, max_error_rate=max_error_rate)
    shown = max(_LEAST_SHOWN, 2 * max_error_rate)
    if plot is not None:
        to_file([(report.language, curves(_group(compared, report.language), score)) for report in found], shown, plot)
    if as_json:
        click.echo(json.dumps(_object(file, score, max_error_rate, found)))
    else:
        for report in found:
            click.echo(_told(report, max_error_rate) + "\n")
        click.echo(in_terminal(curves(compared, score), shown))


def _score(file: Path | None) -> Score:
    if file is None:
        return MULTILINGUAL_E5_SMALL
    try:
        return read_score(file)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _group(compared: Compared, language: str) -> Compared:
    return compared if language == ALL else compared.where(np.asarray(compared.languages == language))


def _object(file: Path, score: Score, rate: float, found: Sequence[LanguageReport]) -> dict[str, object]:
    return {
        "file": str(file),
        "score": score.version,
        "max_error_rate": rate,
        "bounds": "Clopper-Pearson, 95 %, two-sided",
        "languages": [report.as_object() for report in found],
    }


def _told(report: LanguageReport, rate: float) -> str:
    title = f"{report.language}: {report.same + report.different:,} pairs, {report.same:,} the same"
    rows: list[tuple[str, ...]] = [("", "hits", "(95 %)", "wrong", "(95 %)")]
    rows += [(rule.name, *_cells(rule.hits), *_cells(rule.wrong)) for rule in report.rules]
    lines = [title, *_aligned(rows), _verdict(report, rate), "", "refused first by (of the same, of the different):"]
    losses = [(loss.name, f"{loss.same:,}", f"{loss.different:,}") for loss in report.losses]
    return "\n".join([*lines, *_aligned(losses)])


def _verdict(report: LanguageReport, rate: float) -> str:
    wrong = report.served.wrong
    if wrong.value > rate:
        return f"more wrong than {100 * rate:g} %"
    if wrong.high > rate:
        return f"no more wrong than {100 * rate:g} % here; {wrong.of:,} pairs are too few to rule it out"
    return f"no more wrong than {100 * rate:g} %, with 95 % confidence"


def _cells(share: Share) -> tuple[str, str]:
    return f"{100 * share.value:.1f} % ({share.counted})", f"{100 * share.low:.1f}-{100 * share.high:.1f} %"


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join(cells).rstrip()
