"""What the tiers save and spoil at a support desk: ``python -m genkan.bench.support_desk``.

It asks 1,000 questions of 20 intents, from ten seeds, of an empty cache each time, and ends with 1 if fewer than 35 %
were served or any was served wrongly.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from genkan.cache.calibrated import MULTILINGUAL_E5_SMALL
from genkan.cache.evaluation.compared import Embed
from genkan.cache.evaluation.workload import Outcome, Phrasing, read_phrasings, run, zipf
from genkan.cache.normalise import canonical
from genkan.cli.cache_vectors import embed_by, embedder_config, vectors_option

LEAST_SERVED = 0.35
_FILE = Path("tests/data/cache/support_questions.jsonl")
_RATE = 0.01


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), default=_FILE)
@click.option("--seeds", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--requests", type=click.IntRange(min=1), default=1000, show_default=True)
@vectors_option
def main(file: Path, seeds: int, requests: int, vectors: tuple[Path, ...]) -> None:
    """Serve a support desk's questions from the tiers; FILE is JSON lines with intent, language and text."""
    try:
        phrasings = read_phrasings(file)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None
    embed = _once(phrasings, embed_by(embedder_config(), vectors))
    groups = {"all": phrasings}
    english = [phrasing for phrasing in phrasings if phrasing.language == "en"]
    if 0 < len(english) < len(phrasings):
        groups["English"] = english
    is_good = True
    for title, chosen in groups.items():
        outcomes = [
            asyncio.run(
                run(zipf(chosen, requests=requests, seed=seed), embed, MULTILINGUAL_E5_SMALL, max_error_rate=_RATE)
            )
            for seed in range(seeds)
        ]
        click.echo(told(title, outcomes))
        is_good &= all(outcome.hit_rate >= LEAST_SERVED and not outcome.wrong for outcome in outcomes)
    sys.exit(0 if is_good else 1)


def told(title: str, outcomes: Sequence[Outcome]) -> str:
    """A line for each seed, and every question that got a wrong answer, once."""
    lines = [f"{title}: seed, served, exact, normalised, semantic (of those left), wrong"]
    for seed, one in enumerate(outcomes):
        semantic = f"{one.semantic} ({100 * one.semantic_rate:.1f} %)"
        lines.append(
            f"  {seed:>2}  {100 * one.hit_rate:.1f} %  {one.exact}  {one.normalised}  {semantic}  {len(one.wrong)}"
        )
    wrong = {(one.asked.text, one.question) for outcome in outcomes for one in outcome.wrong}
    lines += [f"  wrong: {asked!r} got the answer of {question!r}" for asked, question in sorted(wrong)]
    return "\n".join(lines)


def _once(phrasings: Sequence[Phrasing], embed: Embed) -> Embed:
    """``embed``, asked but once for all that will be needed."""
    texts = list(dict.fromkeys(canonical(phrasing.text) for phrasing in phrasings))
    vectors = embed(texts)
    places = {text: place for place, text in enumerate(texts)}
    return lambda wanted: vectors[[places[text] for text in wanted]]


if __name__ == "__main__":
    main()
