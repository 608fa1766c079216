"""What the prefix cache counts."""

from dataclasses import dataclass


@dataclass(slots=True)
class QueryCounts:
    """Requests that looked into the cache, those that found something, and how many tokens that was."""

    queries: int = 0
    hits: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0

    def record(self, prompt_tokens: int, cached_tokens: int) -> None:
        self.queries += 1
        self.hits += cached_tokens > 0
        self.prompt_tokens += prompt_tokens
        self.cached_tokens += cached_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixStatistics:
    """A snapshot: pages now, and counts since the cache was made.

    ``evictions`` and ``expirations`` count pages freed for want of room and by their TTL, ``purged`` pages taken out
    by ``purge``, ``pins_refused`` pages that stayed unpinned because the budget was spent.
    """

    pages: int
    pinned_pages: int
    evictions: int
    expirations: int
    purged: int
    pins_refused: int
    queries: int
    hits: int
    prompt_tokens: int
    cached_tokens: int

    @property
    def hit_rate(self) -> float:
        """Hits per query; 0 before the first."""
        return self.hits / self.queries if self.queries else 0.0

    @property
    def token_hit_rate(self) -> float:
        """The share of all prompt tokens that was cached; 0 before the first."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0
