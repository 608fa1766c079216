"""Random schemas: do answers validate, do they end, and what do grammars cost? ``python -m genkan.bench.grammar``."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean, median, quantiles
from typing import Any

import click
import jsonschema
import numpy as np
import numpy.typing as npt

from genkan.bench import report
from genkan.bench.random_schemas import RandomSchemas
from genkan.bench.rounds import Rounds, interleaved
from genkan.engine.config import EngineConfig
from genkan.engine.engine import Engine
from genkan.engine.grammar.grammars import Grammars
from genkan.engine.grammar.matcher import Matcher
from genkan.engine.grammar.spec import GrammarSpec
from genkan.engine.grammar.token_table import TokenTable
from genkan.engine.load import gguf
from genkan.engine.load.source import locate
from genkan.engine.model_runner import ModelRunner
from genkan.engine.sampling_params import SamplingParams
from genkan.upstream.tokenizer import TextTokenizer

BATCH = 16
SCHEMA_SEED = 7
_PADDING_ROWS = 64  # of a head beyond the vocabulary
_ASKED = "Answer in JSON. Describe a town, its people and its market, with made-up values."
#: Its answers take 100 to 400 tokens, whatever the model likes to say.
LONG_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "town": {"type": "string", "minLength": 5, "maxLength": 60},
        "kind": {"enum": ["village", "thị trấn", "도시"]},
        "people": {
            "type": "array",
            "minItems": 4,
            "maxItems": 6,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "minLength": 3, "maxLength": 40},
                    "age": {"type": "integer", "minimum": 0, "maximum": 120},
                    "role": {"anyOf": [{"type": "null"}, {"type": "string", "minLength": 10, "maxLength": 80}]},
                },
                "required": ["name", "age", "role"],
                "additionalProperties": False,
            },
        },
        "story": {"type": "string", "minLength": 200, "maxLength": 400},
    },
    "required": ["town", "kind", "people", "story"],
    "additionalProperties": False,
}


@dataclass(slots=True)
class Tally:
    """What became of the answers, and what mask and take cost in seconds of one thread's time each."""

    asked: int = 0
    finished: int = 0
    invalid: int = 0
    tokens: list[int] = field(default_factory=list)
    mask_s: list[float] = field(default_factory=list)
    take_s: list[float] = field(default_factory=list)

    def add(self, schema: dict[str, Any], text: bytes, tokens: int, has_finished: bool) -> None:
        """Count an answer; one that has ended must be JSON, and valid."""
        self.asked += 1
        self.tokens.append(tokens)
        if has_finished:
            self.finished += 1
            self.invalid += not is_valid(schema, text)

    def summary(self) -> dict[str, Any]:
        shares = {"finished": self.finished / self.asked, "invalid": self.invalid, "tokens_mean": fmean(self.tokens)}
        return shares | _times("mask", self.mask_s) | _times("take", self.take_s)


def is_valid(schema: dict[str, Any], text: bytes) -> bool:
    """Whether ``text`` is UTF-8, JSON, and valid by ``schema``."""
    try:
        jsonschema.Draft202012Validator(schema).validate(json.loads(text.decode()))
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def _times(name: str, seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    micros = [each * 1e6 for each in seconds]
    return {
        f"{name}_us": fmean(micros),
        f"{name}_p50_us": median(micros),
        f"{name}_p99_us": quantiles(micros, n=100)[-1],
    }


def random_logits(seed: int, vocab_size: int) -> Iterator[npt.NDArray[np.float32]]:
    """Rows without end: all tokens are as likely as each other."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((64, vocab_size)).astype(np.float32)
    while True:
        yield np.roll(noise[random.integers(len(noise))], int(random.integers(vocab_size)))


def written(
    matcher: Matcher, rows: Iterator[npt.NDArray[np.float32]], table: TokenTable, max_tokens: int, tally: Tally
) -> tuple[list[int], bool]:
    """The tokens that ``rows`` greedily give, and whether they came to an end. Times go to ``tally``."""
    tokens: list[int] = []
    for row in islice(rows, max_tokens):
        began = time.thread_time()
        matcher.mask(row)
        masked = time.thread_time()
        drawn = int(row.argmax())
        chosen = time.thread_time()
        token = matcher.take(drawn, max_tokens - len(tokens) - 1)
        tally.take_s.append(time.thread_time() - chosen)
        tally.mask_s.append(masked - began)
        if token in table.stop_ids:
            return tokens, True
        tokens.append(token)
        if matcher.is_closed:
            return tokens, True
    return tokens, False


async def on_random_logits(
    grammars: Grammars, table: TokenTable, vocab_size: int, schemas: int, max_tokens: int
) -> Tally:
    """An answer to each of ``schemas`` random schemas. Raises InvalidRequest for one that is refused."""
    tally, source, rows = Tally(), RandomSchemas(SCHEMA_SEED), random_logits(0, vocab_size)
    for _ in range(schemas):
        schema = source.schema()
        grammar = await grammars.compiled(GrammarSpec("json_schema", json.dumps(schema)))
        tokens, has_finished = written(grammar.matcher(), rows, table, max_tokens, tally)
        tally.add(schema, b"".join(table.tokens[token] for token in tokens), len(tokens), has_finished)
    return tally


async def on_the_model(engine: Engine, tokenizer: TextTokenizer, schemas: int, max_tokens: int) -> Tally:
    """As ``on_random_logits``, by the model itself, sixteen answers at a time."""
    tally, source, texts = Tally(), RandomSchemas(SCHEMA_SEED), tokenizer.token_bytes()
    prompt = prompt_ids(tokenizer)
    waiting = iter([source.schema() for _ in range(schemas)])

    async def client() -> None:
        for schema in waiting:
            grammar = GrammarSpec("json_schema", json.dumps(schema))
            params = SamplingParams(max_tokens=max_tokens, stop_ids=tokenizer.stop_ids, grammar=grammar)
            tokens, reason = await answer(engine, prompt, params)
            text = b"".join(texts[token] for token in tokens if token not in tokenizer.stop_ids)
            tally.add(schema, text, len(tokens), reason == "stop")

    await asyncio.gather(*(client() for _ in range(BATCH)))
    return tally


async def answer(engine: Engine, prompt: list[int], params: SamplingParams) -> tuple[list[int], str | None]:
    """The tokens of an answer and why it ended."""
    tokens, reason = [], None
    async with aclosing(engine.generate(prompt, params)) as generated:
        async for token in generated:
            tokens.append(token.id)
            reason = token.finish_reason
    return tokens, reason


def prompt_ids(tokenizer: TextTokenizer) -> list[int]:
    return tokenizer.encode(tokenizer.render_chat([{"role": "user", "content": _ASKED}]))


class Throughput:
    """Sixteen answers at once, with a grammar and without; those without are as long as those with."""

    def __init__(self, engine: Engine, tokenizer: TextTokenizer) -> None:
        self._engine = engine
        self._prompt = prompt_ids(tokenizer)
        self._stop_ids = tokenizer.stop_ids
        self._lengths: list[int] = []

    def rounds(self, rounds: int) -> Rounds:
        """``tok_s`` of both arms; one warm-up, which is not counted."""
        self.guided()
        return interleaved("batch 16", {"grammar": self.guided, "free": self.free}, rounds)

    def guided(self) -> dict[str, float]:
        grammar = GrammarSpec("json_schema", json.dumps(LONG_SCHEMA))
        params = [
            SamplingParams(max_tokens=700, seed=seed, stop_ids=self._stop_ids, grammar=grammar) for seed in range(BATCH)
        ]
        rate, self._lengths = self._timed(params)
        return {"tok_s": rate}

    def free(self) -> dict[str, float]:
        params = [
            SamplingParams(max_tokens=length, seed=seed, ignore_eos=True) for seed, length in enumerate(self._lengths)
        ]
        return {"tok_s": self._timed(params)[0]}

    def _timed(self, params: list[SamplingParams]) -> tuple[float, list[int]]:
        async def together() -> list[tuple[list[int], str | None]]:
            return await asyncio.gather(*(answer(self._engine, self._prompt, each) for each in params))

        began = time.perf_counter()
        lengths = [len(tokens) for tokens, _ in asyncio.run(together())]
        return sum(lengths) / (time.perf_counter() - began), lengths


def grammars_of(table: TokenTable, vocab_size: int, config: EngineConfig) -> Grammars:
    return Grammars(
        table,
        timeout_s=config.grammar_timeout_s,
        max_bytes=config.max_grammar_bytes,
        cache=config.grammar_cache,
        vocab_size=vocab_size,
    )


def table_of(tokenizer: TextTokenizer) -> TokenTable:
    return TokenTable(tokenizer.token_bytes(), tokenizer.stop_ids, tokenizer.eos_id, tokenizer.special_ids)


def measure_random(config: EngineConfig, schemas: int, max_tokens: int) -> dict[str, Any]:
    """Random logits on the model's own vocabulary; the model itself is not loaded."""
    tokenizer = TextTokenizer(gguf.read_metadata(locate(config.model)))
    table, vocab_size = table_of(tokenizer), tokenizer.vocab_size + _PADDING_ROWS
    tally = asyncio.run(
        on_random_logits(grammars_of(table, vocab_size, config), table, vocab_size, schemas, max_tokens)
    )
    return tally.summary()


def measure_model(config: EngineConfig, schemas: int, max_tokens: int, rounds: int) -> dict[str, Any]:
    """The model itself: its answers, and the throughput with a grammar against that without."""
    runner = ModelRunner(config)
    tokenizer = TextTokenizer(runner.metadata)
    engine = Engine(runner, config, grammars=grammars_of(table_of(tokenizer), runner.vocab_size, config))
    try:
        measured = Throughput(engine, tokenizer).rounds(rounds)
        ratio = measured.ratio("tok_s", "grammar", "free")
        print(f"tokens/s at batch 16, with a grammar / without: {ratio}")
        tally = asyncio.run(on_the_model(engine, tokenizer, schemas, max_tokens))
    finally:
        engine.stop()
    rates = {f"{arm}_tok_s": measured.median(arm, "tok_s") for arm in measured.arms}
    return tally.summary() | rates | {"throughput_ratio": ratio.of_medians}


@click.command(help=__doc__)
@click.option("--schemas", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--max-tokens", type=click.IntRange(min=1), default=512, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Of the throughput.")
@click.option("--model/--no-model", default=False, help="Ask the model too, and measure throughput.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="bench/out", show_default=True)
def main(schemas: int, max_tokens: int, rounds: int, model: bool, out: Path) -> None:
    config = EngineConfig()
    arms = {"random logits": partial(measure_random, config, schemas, max_tokens)}
    if model:
        arms["model"] = partial(measure_model, config, schemas, max_tokens, rounds)
    results = {name: arm() for name, arm in arms.items()}
    print(report.table(f"{schemas} schemas, at most {max_tokens} tokens", results))
    report.finish(out, "grammar", results)


if __name__ == "__main__":
    main()
