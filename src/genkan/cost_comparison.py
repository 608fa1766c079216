"""What a workload costs in a month with each priced model, and with GPUs of one's own. Pure.

Theory. A workload is so many requests a day of so many tokens. Requests that our response cache answers cost nothing;
of the others' prompts a share may come from the provider's prefix cache, at the price of cached tokens. Everything is
exact (integers and fractions) and rounded once, half up, to nano-dollars.

Lists with one price a model are made for one number of tokens. So the flat price is used where a model has one, the
tokens are given as one number, and no share of them is said to be cached. Otherwise, and for models without a flat
price, the split prices are used; one number of tokens is then three parts prompt to one part answer.

One's own GPUs are paid by the hour, day and night, whatever the load. Whether they can carry it is not part of this.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Literal, NamedTuple

from genkan.errors import InvalidRequest
from genkan.gateway.prices import Price

Basis = Literal["flat", "split", "GPU hours"]

_NANO_PER_USD = 10**9
_PICO_PER_NANO = 1000
_NUMBER = re.compile(r"[0-9]{1,10}(\.[0-9]{1,6})?", re.ASCII)


class Parameter(NamedTuple):
    """A number that a user may give, and between which bounds."""

    name: str
    low: int
    high: int
    is_whole: bool
    meaning: str


PARAMETERS = (
    Parameter("requests_per_day", 1, 10**9, True, "Requests a day; 10,000 by default."),
    Parameter("tokens", 1, 10**7, True, "Tokens of a request, prompt and answer together; 2,000 by default."),
    Parameter("input_tokens", 0, 10**7, True, "Tokens of a prompt; with output tokens in place of the one number."),
    Parameter("output_tokens", 0, 10**7, True, "Tokens of an answer; with input tokens in place of the one number."),
    Parameter("cache_hit_rate", 0, 1, False, "Share of requests that our cache answers; 0.85 by default."),
    Parameter("prefix_share", 0, 1, False, "Share of prompt tokens billed as cached input; 0 by default."),
    Parameter("days", 1, 366, True, "Days in the month; 30 by default."),
    Parameter("gpu_hour_usd", 0, 10**6, False, "Price of one GPU for an hour, to compare with GPUs of one's own."),
    Parameter("gpus", 1, 10**5, True, "How many GPUs at that price each; 1 by default."),
)


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked in a month."""

    requests_per_day: int = 10_000
    input_tokens: int = 1500
    output_tokens: int = 500
    is_one_number: bool = True  # the tokens were given together, so the split is a guess
    cache_hit_rate: Fraction = Fraction(85, 100)
    prefix_share: Fraction = Fraction(0)
    days: int = 30


@dataclass(frozen=True, slots=True)
class Hosting:
    """GPUs that are paid by the hour."""

    gpu_hour_usd: Decimal  # of each
    gpus: int = 1

    def nano_usd(self, days: int) -> int:
        return _rounded(Fraction(self.gpu_hour_usd) * self.gpus * 24 * days * _NANO_PER_USD)


@dataclass(frozen=True, slots=True)
class Row:
    """What one choice costs in a month, in billionths of a dollar."""

    model: str
    upstream: str  # "": the provider's list price
    basis: Basis
    without_cache_nano_usd: int
    with_cache_nano_usd: int
    break_even_requests_per_day: int | None = None  # from so many on the GPUs cost less; None: never, or no GPUs given

    @property
    def saved_nano_usd(self) -> int:
        return self.without_cache_nano_usd - self.with_cache_nano_usd

    @property
    def name(self) -> str:
        return f"{self.model}@{self.upstream}" if self.upstream else self.model


@dataclass(frozen=True, slots=True)
class Comparison:
    """The question and its answer, the cheapest first."""

    workload: Workload
    hosting: Hosting | None = None
    rows: list[Row] = field(default_factory=list)

    def as_object(self) -> dict[str, object]:
        """Ready to be written as JSON; money in dollars, exact to 10^-9."""
        work, hosting = self.workload, self.hosting
        return {
            "workload": {
                "requests_per_day": work.requests_per_day,
                "input_tokens": work.input_tokens,
                "output_tokens": work.output_tokens,
                "cache_hit_rate": float(work.cache_hit_rate),
                "prefix_share": float(work.prefix_share),
                "days": work.days,
            },
            "self_hosting": None
            if hosting is None
            else {"gpu_hour_usd": float(hosting.gpu_hour_usd), "gpus": hosting.gpus},
            "currency": "USD",
            "rows": [_row_object(row) for row in self.rows],
        }


def asked(given: Mapping[str, str]) -> tuple[Workload, Hosting | None]:
    """The workload and the GPUs that ``given`` describes: texts by the names of `PARAMETERS`, defaults for the rest.

    Raises InvalidRequest, which names the parameter that is wrong and its range.
    """
    number = {
        parameter.name: _number(parameter, given[parameter.name]) for parameter in PARAMETERS if parameter.name in given
    }
    whole = {name: int(value) for name, value in number.items()}
    usual = Workload()
    together = whole.get("tokens", usual.input_tokens + usual.output_tokens)
    apart = _tokens_apart(whole)
    workload = Workload(
        requests_per_day=whole.get("requests_per_day", usual.requests_per_day),
        input_tokens=apart[0] if apart else together * 3 // 4,
        output_tokens=apart[1] if apart else together - together * 3 // 4,
        is_one_number=apart is None,
        cache_hit_rate=Fraction(number.get("cache_hit_rate", usual.cache_hit_rate)),
        prefix_share=Fraction(number.get("prefix_share", usual.prefix_share)),
        days=whole.get("days", usual.days),
    )
    if "gpu_hour_usd" in number:
        return workload, Hosting(number["gpu_hour_usd"], whole.get("gpus", 1))
    if "gpus" in number:
        raise InvalidRequest("'gpus' needs 'gpu_hour_usd', the price of each for an hour.", param="gpu_hour_usd")
    return workload, None


def compare(prices: Iterable[Price], workload: Workload, hosting: Hosting | None = None) -> Comparison:
    """A row for each price and one for the GPUs, the cheapest with our cache first."""
    gpus_nano_usd = None if hosting is None else hosting.nano_usd(workload.days)
    rows = [_row(price, workload, gpus_nano_usd) for price in prices]
    if hosting is not None and gpus_nano_usd is not None:
        name = f"self-hosted on {hosting.gpus} GPU{'s' if hosting.gpus > 1 else ''}"
        rows.append(Row(name, "", "GPU hours", gpus_nano_usd, gpus_nano_usd))
    rows.sort(key=lambda row: (row.with_cache_nano_usd, row.without_cache_nano_usd, row.name))
    return Comparison(workload, hosting, rows)


def _row(price: Price, work: Workload, gpus_nano_usd: int | None) -> Row:
    per_request, basis = _request_pico_usd(price, work)
    a_day_each = per_request * work.days / _PICO_PER_NANO  # nano-dollars a month for one request a day
    unanswered = 1 - work.cache_hit_rate
    return Row(
        model=price.model,
        upstream=price.upstream,
        basis=basis,
        without_cache_nano_usd=_rounded(a_day_each * work.requests_per_day),
        with_cache_nano_usd=_rounded(a_day_each * work.requests_per_day * unanswered),
        break_even_requests_per_day=_break_even(gpus_nano_usd, a_day_each * unanswered),
    )


def _request_pico_usd(price: Price, work: Workload) -> tuple[Fraction, Basis]:
    flat = price.flat_pico_usd
    if flat is not None and (not price.is_split or (work.is_one_number and not work.prefix_share)):
        return Fraction(flat * (work.input_tokens + work.output_tokens)), "flat"
    cached = work.input_tokens * work.prefix_share
    prompt = (work.input_tokens - cached) * price.input_pico_usd + cached * price.cached_input_pico_usd
    return prompt + work.output_tokens * price.output_pico_usd, "split"


def _break_even(gpus_nano_usd: int | None, one_a_day: Fraction) -> int | None:
    if gpus_nano_usd is None or not one_a_day:
        return None
    return -int(-gpus_nano_usd // one_a_day)


def _tokens_apart(whole: Mapping[str, int]) -> tuple[int, int] | None:
    given = [name for name in ("input_tokens", "output_tokens") if name in whole]
    if not given:
        return None
    if "tokens" in whole:
        raise InvalidRequest(f"'tokens' is both together; give it or '{given[0]}', not both.", param="tokens")
    if len(given) == 1:
        missing = "output_tokens" if given == ["input_tokens"] else "input_tokens"
        raise InvalidRequest(f"'{given[0]}' goes with '{missing}'.", param=missing)
    return whole["input_tokens"], whole["output_tokens"]


def _number(parameter: Parameter, text: str) -> Decimal:
    value = Decimal(text) if _NUMBER.fullmatch(text) else None
    if value is None or not parameter.low <= value <= parameter.high or (parameter.is_whole and "." in text):
        kind = "a whole number" if parameter.is_whole else "a number with at most six decimals"
        raise InvalidRequest(
            f"'{parameter.name}' must be {kind} from {parameter.low} to {parameter.high}; given: '{text[:100]}'.",
            param=parameter.name,
        )
    return value


def _row_object(row: Row) -> dict[str, object]:
    return {
        "model": row.model,
        "upstream": row.upstream or None,
        "basis": row.basis,
        "without_cache_usd": row.without_cache_nano_usd / _NANO_PER_USD,
        "with_cache_usd": row.with_cache_nano_usd / _NANO_PER_USD,
        "saved_usd": row.saved_nano_usd / _NANO_PER_USD,
        "break_even_requests_per_day": row.break_even_requests_per_day,
    }


def _rounded(value: Fraction) -> int:
    return int((value + Fraction(1, 2)) // 1)
