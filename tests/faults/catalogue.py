"""The whole table, for tests that want every fault: ``FAULTS`` says in words what each name does."""

from faults import bodies, oddities, outage, refusals, scripted, streams, transport
from faults.table import Fault, table

#: Each enters its faults into the table when it is imported.
_SOURCES = (bodies, oddities, outage, refusals, scripted, streams, transport)

TABLE: dict[str, Fault] = table()
FAULTS: dict[str, str] = {name: entry.what for name, entry in TABLE.items()}
#: Faults of one way of asking; asked the other way, these models are healthy.
STREAM_ONLY = frozenset(name for name, entry in TABLE.items() if entry.only == "stream")
WHOLE_ONLY = frozenset(name for name, entry in TABLE.items() if entry.only == "whole")
#: Odd, not broken: the whole answer is there to be had.
HARMLESS = frozenset(name for name, entry in TABLE.items() if entry.harmless)
