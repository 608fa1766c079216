"""What requests cost. Pure.

Theory. Money is whole numbers. Dollars per million tokens with at most six decimals are a whole number of trillionths
of a dollar a token (0.028 $/MTok is 28,000 of them), so the cost of a request is an exact sum. It is rounded once, half
up, to billionths of a dollar (nano-dollars), in which everything else counts. Streams and whole answers of the same
usage therefore cost the same to the last digit, and the order in which rows are added does not matter.

Names are compared as they are, never by what they begin with: `gpt-4.1` is not `gpt-4.1-mini`. What has no price costs
None, which is not 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal

from genkan.config import PriceConfig, PricesConfig
from genkan.errors import ConfigError
from genkan.wire.usage import Usage

_PICO_PER_NANO = 1000
_PICO_PER_TOKEN = 10**6  # of one dollar per million tokens
_EVER = date.min


@dataclass(frozen=True, slots=True)
class Price:
    """What a model's tokens cost, each in trillionths of a dollar."""

    model: str
    upstream: str  # "": wherever no price of its own is given
    input_pico_usd: int
    output_pico_usd: int
    cached_input_pico_usd: int
    cache_write_pico_usd: int
    flat_pico_usd: int | None = None  # a list's price for every token alike; billed only where the split is not known
    is_split: bool = True  # False: all of the above are the flat price

    def nano_usd(self, usage: Usage) -> int:
        """The cost of one request in billionths of a dollar, rounded half up. Less than 1 µs."""
        fresh = usage.prompt - usage.cached - usage.cache_write
        return _rounded(
            fresh * self.input_pico_usd
            + usage.cached * self.cached_input_pico_usd
            + usage.cache_write * self.cache_write_pico_usd
            + usage.completion * self.output_pico_usd
        )

    def saved_nano_usd(self, usage: Usage) -> int:
        """How much more it would have cost with the cached tokens at the price of fresh ones; never below 0.

        What writing to the cache cost is in ``nano_usd`` and not taken off here.
        """
        if not usage.cached or self.cached_input_pico_usd >= self.input_pico_usd:
            return 0
        uncached = Usage(usage.prompt, usage.completion, 0, usage.cache_write)
        return self.nano_usd(uncached) - self.nano_usd(usage)

    def most_nano_usd(self, prompt_tokens: int, output_tokens: int) -> int:
        """The most that a request of at most so many tokens can cost, whatever comes from a cache or goes to it."""
        dearest = max(self.input_pico_usd, self.cached_input_pico_usd, self.cache_write_pico_usd)
        return _rounded(prompt_tokens * dearest + output_tokens * self.output_pico_usd)


class PriceBook:
    """The price list, by name."""

    def __init__(self, prices: PricesConfig, *, today: date | None = None) -> None:
        """The prices of ``today`` (UTC), the day the process reads them; later ones need a restart.

        Of several for a name at an upstream the newest that has begun counts, and of equally new ones the first. Raises
        ConfigError for an entry with too few prices, or in a currency without a rate.
        """
        day = today or datetime.now(UTC).date()
        self._prices: dict[tuple[str, str], Price] = {}
        begun: dict[tuple[str, str], date] = {}
        for index, entry in enumerate(prices.models):
            price, since = _price(entry, prices, f"prices.models[{index}]"), entry.since or _EVER
            if since > day:
                continue
            for name in (entry.model, *entry.aliases):
                key = (price.upstream, name)
                if key not in begun or since > begun[key]:
                    self._prices[key], begun[key] = price, since

    def __iter__(self) -> Iterator[Price]:
        """The prices that count today, in the list's order, each once."""
        return (price for (upstream, name), price in self._prices.items() if name == price.model)

    def price(self, model: str, *, upstream: str = "", name_there: str = "") -> Price | None:
        """The price of a model that ``upstream`` calls ``name_there``; None where none is known. Less than 1 µs.

        Looked up in this order: ``name_there`` and then ``model`` at this upstream, ``name_there`` and then ``model``
        anywhere. An alias is a name.
        """
        prices = self._prices
        return (
            prices.get((upstream, name_there))
            or prices.get((upstream, model))
            or prices.get(("", name_there))
            or prices.get(("", model))
        )


def usd_per_mtok(pico_usd: int) -> float:
    """A price as lists show it, in dollars per million tokens; for people, not to be counted with."""
    return pico_usd / _PICO_PER_TOKEN


def _price(entry: PriceConfig, prices: PricesConfig, path: str) -> Price:
    rate = Decimal(1) if entry.currency == "USD" else prices.usd_per.get(entry.currency)
    if rate is None:
        raise ConfigError(f"{path}.currency", f"prices.usd_per has no rate for {entry.currency}")
    flat = None if entry.flat is None else _pico_usd(entry.flat, rate)
    fresh = flat if entry.input is None else _pico_usd(entry.input, rate)
    output = flat if entry.output is None else _pico_usd(entry.output, rate)
    if fresh is None or output is None:
        raise ConfigError(path, "needs 'input' and 'output', or 'flat'")
    return Price(
        model=entry.model,
        upstream=entry.upstream or "",
        input_pico_usd=fresh,
        output_pico_usd=output,
        cached_input_pico_usd=fresh if entry.cached_input is None else _pico_usd(entry.cached_input, rate),
        cache_write_pico_usd=fresh if entry.cache_write is None else _pico_usd(entry.cache_write, rate),
        flat_pico_usd=flat,
        is_split=entry.input is not None or entry.output is not None,
    )


def _pico_usd(per_mtok: Decimal, rate: Decimal) -> int:
    """Exact for dollars; another currency is rounded half up to the trillionth of a dollar."""
    return int((per_mtok * rate * _PICO_PER_TOKEN).quantize(Decimal(1), ROUND_HALF_UP))


def _rounded(pico_usd: int) -> int:
    return (pico_usd + _PICO_PER_NANO // 2) // _PICO_PER_NANO
