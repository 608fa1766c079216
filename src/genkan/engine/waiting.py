"""Who is admitted next: fair between tenants, by priority and prefix inside one. Pure.

Between tenants, the one that has had the fewest tokens computed goes first (virtual token counters, arXiv:2401.00588);
a tenant that comes back after a pause starts level with the least served that is there, so idleness saves nothing up.
Inside a tenant, the highest priority goes first; of one priority, what was preempted, then the request with the longest
cached prefix, so that pages are used while they are there; but a request that was overtaken often enough goes before
all other new ones. Which tenant is next never depends on what the waiting requests would find in the cache: it would
tell one tenant what another has asked. Nor does it depend on their priorities.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, islice

from genkan.engine.sequence import Sequence

LOOKAHEAD = 16  # waiting requests of a priority that are compared; each costs a walk down the prefix cache
MAX_OVERTAKEN = 32


class WaitingLine:
    """Sequences that wait, by tenant."""

    def __init__(self) -> None:
        self._tenants: dict[str, _Tenant] = {}

    def __len__(self) -> int:
        return sum(map(len, self._tenants.values()))

    def __iter__(self) -> Iterator[Sequence]:
        return chain.from_iterable(line.all() for tenant in self._tenants.values() for line in tenant.lines.values())

    def add(self, sequence: Sequence) -> None:
        self._tenant(sequence.tenant).line(sequence.priority).fresh.append(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """A preempted sequence: before all others of its tenant and priority."""
        self._tenant(sequence.tenant).line(sequence.priority).preempted.appendleft(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take out one that waits."""
        tenant = self._tenants[sequence.tenant]
        line = tenant.line(sequence.priority)
        (line.preempted if sequence in line.preempted else line.fresh).remove(sequence)
        tenant.drop_empty(sequence.priority)

    def admitted(self, sequence: Sequence) -> None:
        """Take ``sequence`` out, and count it as having overtaken those of its line that came before it."""
        line = self._tenants[sequence.tenant].line(sequence.priority)
        if sequence in line.fresh:
            for passed in islice(line.fresh, line.fresh.index(sequence)):
                passed.overtaken += 1
        self.remove(sequence)

    def served(self, tenant: str, tokens: int) -> None:
        """Count computed tokens for a tenant that waits or runs."""
        self._tenant(tenant).tokens_served += tokens

    def tenants(self) -> set[str]:
        """Those that have sequences here."""
        return {name for name, tenant in self._tenants.items() if tenant.lines}

    def candidates(self, cached_pages: Callable[[Sequence], int]) -> Iterator[Iterator[Sequence]]:
        """For each tenant with waiting sequences, the least served first: its sequences, best first.

        ``cached_pages`` is asked once for each of the first LOOKAHEAD of a priority. Cost otherwise: a sort of the
        tenants.
        """
        waiting = [tenant for tenant in self._tenants.values() if tenant.lines]
        for tenant in sorted(waiting, key=lambda tenant: tenant.tokens_served):
            yield tenant.in_order(cached_pages)

    def forget_idle(self, running: set[str]) -> None:
        """Drop the counters of tenants that neither wait nor are in ``running``."""
        for name in [name for name, tenant in self._tenants.items() if not tenant.lines and name not in running]:
            del self._tenants[name]

    def _tenant(self, name: str) -> "_Tenant":
        tenant = self._tenants.get(name)
        if tenant is None:
            least = min((other.tokens_served for other in self._tenants.values()), default=0)
            tenant = self._tenants[name] = _Tenant(least)
        return tenant


class _Tenant:
    def __init__(self, tokens_served: int) -> None:
        self.lines: dict[int, _Line] = {}  # by priority; none of them is empty between two calls
        self.tokens_served = tokens_served

    def __len__(self) -> int:
        return sum(map(len, self.lines.values()))

    def line(self, priority: int) -> "_Line":
        return self.lines.setdefault(priority, _Line())

    def drop_empty(self, priority: int) -> None:
        if not len(self.lines[priority]):
            del self.lines[priority]

    def in_order(self, cached_pages: Callable[[Sequence], int]) -> Iterator[Sequence]:
        for priority in sorted(self.lines, reverse=True):
            yield from self.lines[priority].in_order(cached_pages)


class _Line:
    """What waits of one tenant with one priority."""

    def __init__(self) -> None:
        self.preempted: deque[Sequence] = deque()
        self.fresh: deque[Sequence] = deque()

    def __len__(self) -> int:
        return len(self.preempted) + len(self.fresh)

    def all(self) -> Iterator[Sequence]:
        return chain(self.preempted, self.fresh)

    def in_order(self, cached_pages: Callable[[Sequence], int]) -> Iterator[Sequence]:
        yield from tuple(self.preempted)
        first = list(islice(self.fresh, LOOKAHEAD))
        if first and first[0].overtaken >= MAX_OVERTAKEN:
            yield first.pop(0)
        # Sorting is stable: equals stay in the order they came.
        yield from sorted(first, key=cached_pages, reverse=True)
