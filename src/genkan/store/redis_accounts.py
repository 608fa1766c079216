"""Accounts in Redis: limits and budgets that hold over all workers and replicas, and one ledger for all."""

import re
from collections.abc import Sequence

import orjson

from genkan.config.store import LedgerConfig
from genkan.errors import StoreRefused
from genkan.store.account_commands import (
    ADMIT,
    CLOSE_LOST,
    HOLD_S,
    READ,
    RENEW,
    SETTLE,
    AccountCommands,
    decision,
    states,
)
from genkan.store.accounts import Accounts, Admission, Decision, LineState, Outcome, Plan, Settlement
from genkan.store.connection import Reply
from genkan.store.resp import RespClient, Script, packed

_OUTCOMES: tuple[Outcome, ...] = ("duplicate", "settled", "late")
_BEHIND_S = 1.0  # for what no client waits for
_PAGE = 1000
_NOT_PERMITTED = re.compile("can't run this command|ACL failure in script")
_WITHIN = re.compile(r"@user_script: ?\d+: -?([A-Z]{3,}) ")


class RedisAccounts(Accounts):
    """Accounts under ``prefix`` of the Redis that ``client`` talks to; all time is that Redis' own.

    Each call is one script, and so happens as a whole or not at all, before or after every other worker's.

    What ``settle`` does is known for certain where a request has a draft, and later a row: if its reservation is not
    there, its admission never reached this Redis, or was lost with it, whatever ``was_admitted`` says; then budgets are
    charged with all of ``actual``, and buckets stay as they are. So a request is admitted with a draft if it will be
    settled with a row. Without either, ``was_admitted`` is believed. Leases and windows know the ids of requests: they
    are given back or put right if they have this one, and not otherwise.

    An admission whose id was admitted or settled before takes nothing, for as long as the reservation is there, or for
    120 s after the settlement. (Without a draft that is so of windows and leases only.)

    Cost of a request with four lines: `admit` 2 µs here besides the client's 8, and 20 µs of Redis; `settle` 1 µs here
    besides the client's, and 15 µs of Redis. One round trip each.
    """

    def __init__(self, client: RespClient, *, prefix: str, ledger: LedgerConfig, hold_s: float = HOLD_S) -> None:
        """``hold_s``: after how long without `renew` a request is lost whose plan has no lease to say so."""
        self._client = client
        self._commands = AccountCommands(prefix, ledger, hold_s=hold_s)

    async def admit(self, admission: Admission, *, timeout_s: float) -> Decision:
        command = self._commands.admit(admission)
        try:
            reply = await self._client.send(command, timeout_s=timeout_s)
        except StoreRefused as refused:
            reply = await self._again(ADMIT, command, refused, timeout_s)
        return decision(admission.plan, reply)

    async def settle(self, settlements: Sequence[Settlement]) -> list[Outcome]:
        """If one is refused, the others are settled all the same, and StoreRefused is raised: it is safe to ask again.

        Nothing of what is refused is done, be it that a key is not what it should be or that the row cannot be written.

        They are settled in their order, but what other workers do may come in between.
        """
        commands = [self._commands.settle(settlement) for settlement in settlements]
        replies = await self._client.pipeline(commands, timeout_s=_BEHIND_S)
        if StoreRefused in map(type, replies):
            await self._settle_unknown(commands, replies)
        return [_OUTCOMES[reply] for reply in replies]

    async def renew(self, admissions: Sequence[Admission]) -> None:
        if admissions:
            await self._run(RENEW, self._commands.renew(admissions))

    async def close_lost(self, *, at_most: int = 100) -> int:
        closed: int = await self._run(CLOSE_LOST, self._commands.close_lost(at_most))
        return closed

    async def read(self, plan: Plan) -> list[LineState]:
        return list(states(iter(await self._run(READ, self._commands.read(plan))))) if plan else []

    async def rows(self, after: str = "", *, at_most: int = 1000) -> list[tuple[str, bytes]]:
        """What somebody else wrote to the ledger, and is no row, is left out.

        Raises StoreRefused if ``after`` is no cursor.
        """
        rows: list[tuple[str, bytes]] = []
        start: str | None = f"({after}" if after else "-"
        while start is not None and len(rows) < at_most:
            page, start = await self._page(start, at_most - len(rows))
            rows += page
        return rows

    async def already_settled(self, request_ids: Sequence[str], since_s: float) -> set[str]:
        asked, found = set(request_ids), set[str]()
        start: str | None = str(max(0, int(since_s * 1000)))
        while start is not None and len(found) < len(asked):
            page, start = await self._page(start, _PAGE)
            found.update(asked.intersection([_id(row) for _, row in page]))
        if not found:
            return found
        ids = sorted(found)
        lost = await self._client.call("ZMSCORE", self._commands.lost_key, *ids, timeout_s=_BEHIND_S)
        return {request_id for request_id, closed_ms in zip(ids, lost, strict=True) if closed_ms is None}

    async def _settle_unknown(self, commands: list[bytes], replies: list[Reply]) -> None:
        """Ask again what Redis did not know the script for. Raises what was refused for another reason."""
        unknown = [place for place, reply in enumerate(replies) if _is_unknown(reply)]
        if unknown:
            load = packed("SCRIPT", "LOAD", SETTLE.text)
            again = await self._client.pipeline([load, *(commands[place] for place in unknown)], timeout_s=_BEHIND_S)
            for place, reply in zip(unknown, again[1:], strict=True):
                replies[place] = reply
        for reply in replies:
            if isinstance(reply, StoreRefused):
                raise _as_said_outside_scripts(reply)

    async def _page(self, start: str, at_most: int) -> tuple[list[tuple[str, bytes]], str | None]:
        """The rows among the next entries of the ledger, and where the entries after those start, if there are any."""
        range_ = ("XRANGE", self._commands.ledger_key, start, "+", "COUNT", at_most)
        entries = await self._client.call(*range_, timeout_s=_BEHIND_S)
        rows = [(cursor.decode(), fields[1]) for cursor, fields in entries if _is_row(fields)]
        return rows, f"({entries[-1][0].decode()}" if len(entries) == at_most else None

    async def _run(self, script: Script, command: bytes) -> Reply:
        try:
            return await self._client.send(command, timeout_s=_BEHIND_S)
        except StoreRefused as refused:
            return await self._again(script, command, refused, _BEHIND_S)

    async def _again(self, script: Script, command: bytes, refused: StoreRefused, timeout_s: float) -> Reply:
        """What ``command`` replies once Redis knows the script. Raises what was refused for another reason."""
        if not _is_unknown(refused):
            raise refused
        load = packed("SCRIPT", "LOAD", script.text)
        loaded, reply = await self._client.pipeline([load, command], timeout_s=timeout_s)
        for answer in (loaded, reply):
            if isinstance(answer, StoreRefused):
                raise answer
        return reply


def _is_unknown(reply: object) -> bool:
    """Whether Redis did not know the script, and so did nothing."""
    return isinstance(reply, StoreRefused) and reply.code == "NOSCRIPT"


def _as_said_outside_scripts(refused: StoreRefused) -> StoreRefused:
    """With the code that Redis uses for it elsewhere, which says whether it is about the call or about Redis.

    Up to 6.2 that stands within the message, and what is not permitted has no code of its own in any version.
    """
    text = str(refused)
    if _NOT_PERMITTED.search(text):
        return StoreRefused(f"NOPERM {text}")
    within = _WITHIN.search(text)
    return StoreRefused(f"{within[1]} {text}") if within else refused


def _is_row(fields: list[bytes]) -> bool:
    if len(fields) != 2 or fields[0] != b"r":
        return False
    try:
        return isinstance(orjson.loads(fields[1]), dict)
    except orjson.JSONDecodeError:
        return False


def _id(row: bytes) -> str | None:
    request_id = orjson.loads(row).get("id")
    return request_id if isinstance(request_id, str) else None
