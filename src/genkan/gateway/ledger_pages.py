"""The ledger page by page, without keeping anybody else waiting."""

import asyncio
from collections.abc import AsyncIterator

from genkan.store.accounts import Accounts

PAGE_ROWS = 500


async def ledger_pages(
    accounts: Accounts, after: str = "", *, at_most: int | None = None
) -> AsyncIterator[list[tuple[str, bytes]]]:
    """The rows after a cursor, oldest first, each with its own cursor: at most 500 a page and ``at_most`` in all.

    Ends with the last row there is. Between two pages whatever else runs in the event loop has its turn.
    Raises StoreError.
    """
    left = at_most
    while left is None or left > 0:
        page = await accounts.rows(after, at_most=PAGE_ROWS if left is None else min(PAGE_ROWS, left))
        if not page:
            return
        yield page
        after = page[-1][0]
        left = None if left is None else left - len(page)
        await asyncio.sleep(0)
