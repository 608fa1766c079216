"""All questions that one answer could serve but for what they ask: rows, and a graph once they are many."""

import asyncio
from collections.abc import Iterator

from genkan.cache.index import graph as graphs
from genkan.cache.index.base import Vector
from genkan.cache.index.graph import Graph
from genkan.cache.index.rows import Found, Rows

GRAPH_FROM = 20_000  # entries; so many rows take two milliseconds, in turns
_TAIL = 2_000  # rows that are searched one by one beside a graph, until it is extended
_NAMED = 16  # rows that a graph is asked for at least
_ROWS_AT_ONCE = 256  # put into a graph in one go, some 60 ms of a thread


class Partition:
    """Of one tenant and one route."""

    def __init__(self, tenant: str, route: str, dim: int) -> None:
        self.tenant = tenant
        self.route = route
        self.rows = Rows(dim)
        self._graph: Graph | None = None

    @property
    def has_graph(self) -> bool:
        """Whether one is used in place of most rows."""
        return self._graph is not None and self._graph.end > 0

    def wants_graph(self) -> bool:
        """Whether ``extend_graph`` has something to do."""
        rows, graph = self.rows, self._graph
        if graph is None:
            return len(rows) > GRAPH_FROM
        return self._is_stale(graph) or rows.end - graph.end > _TAIL

    def nearest(self, query: Vector, k: int, now_s: float) -> Iterator[list[Found]]:
        """Best entries of every part, part by part, the same one twice perhaps. What is added meanwhile may miss.

        A part takes 20 to 60 µs, the graph 300.
        """
        first, graph = self.rows.first, self._graph
        if graph is not None and not graph.is_busy and graph.end > first:
            first = graph.end
            yield self.rows.among(graph.near(query, max(_NAMED, 4 * k)), query, now_s)
        for number in self.rows.blocks_from(first):
            yield self.rows.nearest(number, query, k, now_s)

    async def extend_graph(self) -> None:
        """Put the rows that it does not know into the graph, in a thread; rows are searched one by one meanwhile."""
        if self._graph is not None and self._is_stale(self._graph):
            self._graph = None
        if len(self.rows) <= GRAPH_FROM // 2 or not graphs.is_available():
            return
        graph = self._graph = self._graph or Graph(self.rows.dim)
        while graph.end < (end := self.rows.end):
            first = max(graph.end, self.rows.first)
            end = min(end, first + _ROWS_AT_ONCE)
            numbers, vectors = self.rows.living(first, end)
            graph.is_busy = True
            try:
                await asyncio.to_thread(graph.add, numbers, vectors)
            except BaseException:
                self._graph = None  # a thread may still be in it
                raise
            graph.end = end
            graph.is_busy = False

    def _is_stale(self, graph: Graph) -> bool:
        """Whether most of what it names is gone, or it is not worth its while any more."""
        return len(self.rows) < GRAPH_FROM // 2 or graph.size > 2 * len(self.rows)
