"""Who is told of what happens to the ledger."""

from typing import Protocol

from genkan.store.accounts import Outcome


class LedgerObserver(Protocol):
    """Takes notes, quickly: some of it is called while requests wait."""

    def settled(self, outcome: Outcome, n: int) -> None:
        """So many settlements were taken; one sent twice, to be sure, counts twice, as a rule once as ``duplicate``."""

    def queued(self, n: int) -> None:
        """So many settlements wait in memory to be sent."""

    def left(self) -> None:
        """A settlement found no place in memory; it is in the journal alone until that is replayed."""

    def refused(self) -> None:
        """A settlement was set aside: the store does not take it, but takes others."""

    def lost(self, n: int) -> None:
        """So many requests were closed as lost: nobody knows how they ended."""

    def journal_failed(self) -> None:
        """A record could not be written when it should have been; it is kept in memory for now."""


class Unobserved:
    """A LedgerObserver that takes no notes."""

    def settled(self, outcome: Outcome, n: int) -> None: ...

    def queued(self, n: int) -> None: ...

    def left(self) -> None: ...

    def refused(self) -> None: ...

    def lost(self, n: int) -> None: ...

    def journal_failed(self) -> None: ...
