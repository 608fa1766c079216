"""``genkan cache calibrate``: a score of one's own, for ``cache.score``."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np

from genkan.cache.evaluation.compared import Compared, compare
from genkan.cache.evaluation.fitting import fitted
from genkan.cache.evaluation.labelled import LabelledPair, read_pairs
from genkan.cache.evaluation.score_file import score_text
from genkan.cli.cache_vectors import embed_by, embedder_config, vectors_option

_SHARE = click.FloatRange(0.0, 0.5)


@click.command()
@click.option(
    "--train",
    "files",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    required=True,
    help="Labelled pairs: CSV (text_a,text_b,same) or JSON lines (a, b, same); may be given more than once.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write.")
@click.option(
    "--max-error-rate", type=_SHARE, default=0.01, show_default=True, help="Of the pairs that differ, so many served."
)
@click.option(
    "--label-noise",
    type=_SHARE,
    default=0.0,
    show_default=True,
    help="Share of the English pairs labelled different that are not: served ones among them are not held against it.",
)
@vectors_option
def calibrate(
    files: tuple[Path, ...], out: Path, max_error_rate: float, label_noise: float, vectors: tuple[Path, ...]
) -> None:
    """Fit a score to labelled pairs, and write it for `cache.score`.

    Some thousand pairs of the questions that clients ask are needed, traps among them: pairs that read alike and have
    different answers. Keep others for `genkan cache eval`.
    """
    config = embedder_config()
    train = compare(read_all(files), embed_by(config, vectors))
    try:
        score = fitted(train, max_error_rate=max_error_rate, label_noise=label_noise, version=config.name)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    facts = _facts(train) | {"max_error_rate": max_error_rate, "label_noise": label_noise}
    facts |= {"files": [path.name for path in files], "embedder": config.name, "model": config.model}
    try:
        out.write_text(score_text(score, facts), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {out}: {error}") from None
    told = ", ".join(f"{language} {threshold:.3f}" for language, threshold in score.thresholds.items())
    click.echo(f"{out}: fitted on {len(train):,} pairs; thresholds: {told}", err=True)


def read_all(files: Sequence[Path]) -> list[LabelledPair]:
    """The pairs of all files. Ends the command with the line that is wrong."""
    try:
        return [pair for path in files for pair in read_pairs(path)]
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _facts(train: Compared) -> dict[str, object]:
    names, counts = np.unique(train.languages, return_counts=True)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "pairs": dict(zip(names.tolist(), counts.tolist(), strict=True)),
        "same": int(train.same.sum()),
    }
