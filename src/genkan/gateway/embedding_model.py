"""The embedding model as limits, budgets and the ledger see it."""

from collections.abc import Sequence

from genkan.config import EmbedderConfig
from genkan.gateway.estimate import Estimator, Size, most_prompt_tokens, size_of_texts
from genkan.gateway.prices import Price, PriceBook
from genkan.store.accounts import Amounts

EMBEDDER = "embedder"  # what our own is called where upstreams have names
_ELSEWHERE = "upstream:"


class EmbeddingModel:
    """Its names, its price, and what a request to it takes."""

    def __init__(self, config: EmbedderConfig, prices: PriceBook) -> None:
        """The price is that of the model's name; at an upstream, it is looked for as that of any model there is.

        Our own costs nothing if the list does not say: it is this machine's work.
        """
        self.name = config.name
        self.upstream, name_there = EMBEDDER, ""
        is_ours = not config.model.startswith(_ELSEWHERE)
        if not is_ours:
            self.upstream, _, name_there = config.model.removeprefix(_ELSEWHERE).partition("/")
        self.deployment = f"{self.name}@{self.upstream}"
        self.price = prices.price(self.name, upstream=self.upstream, name_there=name_there or self.name)
        if self.price is None and is_ours:
            self.price = Price(self.name, EMBEDDER, 0, 0, 0, 0)
        self.estimator = Estimator()
        self._prefix_bytes = len(config.prefix.encode())
        self._most_per_text = config.max_tokens if is_ours else None  # elsewhere, who knows what is refused

    def size_of(self, texts: Sequence[str]) -> Size:
        """The size of ``texts`` and of what is put before each."""
        size = size_of_texts(texts)
        return size._replace(ascii=size.ascii + self._prefix_bytes * len(texts))

    def amounts(self, size: Size) -> Amounts:
        """What to draw: a guess from limits, and from budgets a bound.

        Our own model's tokenizer writes some signs out, such as 3 bytes of ㌚ in 5 tokens: hence two a byte.
        """
        most = most_prompt_tokens(size)
        if self._most_per_text is not None:
            most = min(most + size.other, self._most_per_text * size.messages)
        most_usd = 0 if self.price is None else self.price.most_nano_usd(most, 0)
        return Amounts(1, min(self.estimator.prompt_tokens(size), most), most, most_usd)
