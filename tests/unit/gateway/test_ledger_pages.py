"""Going through the ledger."""

import asyncio

import pytest
from ledger_rows import append, memory_ledger, row

from genkan.gateway.ledger_pages import PAGE_ROWS, ledger_pages
from genkan.store.memory_accounts import MemoryAccounts

pytestmark = pytest.mark.anyio


async def ledger_of(count: int) -> MemoryAccounts:
    accounts = memory_ledger()
    await append(accounts, [row(f"req_{number}") for number in range(count)])
    return accounts


@pytest.mark.parametrize("count", [0, 1, PAGE_ROWS - 1, PAGE_ROWS, PAGE_ROWS + 1, 2 * PAGE_ROWS + 7])
async def test_every_row_once_and_in_order(count: int) -> None:
    pages = [page async for page in ledger_pages(await ledger_of(count))]
    assert [raw for page in pages for _, raw in page] == [row(f"req_{number}") for number in range(count)]
    assert all(0 < len(page) <= PAGE_ROWS for page in pages)


async def test_goes_on_after_a_cursor_and_stops_at_the_limit() -> None:
    accounts = await ledger_of(1200)
    first = [entry async for page in ledger_pages(accounts, at_most=700) for entry in page]
    rest = [entry async for page in ledger_pages(accounts, first[-1][0]) for entry in page]
    assert (len(first), len(rest)) == (700, 500)
    assert [raw for _, raw in first + rest] == [row(f"req_{number}") for number in range(1200)]


async def test_others_have_their_turn_between_pages() -> None:
    accounts, turns = await ledger_of(5 * PAGE_ROWS), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    pages = [page async for page in ledger_pages(accounts)]
    task.cancel()
    assert turns >= len(pages) == 5
