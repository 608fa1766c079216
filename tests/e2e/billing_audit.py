"""The ledger against what the upstream wrote down itself and what the clients saw, row for row. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from e2e.billed_load import Told
from faults.canonical import TOKENS

#: Nano-dollars for a token of the prompt and of the answer, by deployment. Whole, so that sums are exact.
Prices = Mapping[str, tuple[int, int]]
#: What an attempt may have ended with that no byte of has reached the upstream: it died, or its client left, before.
_UNSENT: Final = frozenset({"lost", "client_gone"})
#: How much later than a kill its clients may notice, and how long after a client left its worker may not have.
_NOTICED_S: Final = 0.5


@dataclass(slots=True)
class Audit:
    """What was found. ``findings`` are what must not be, in words."""

    findings: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    #: Sums over the attempts of which both sides know the usage: tokens here, tokens there, and nano-dollars likewise.
    tokens: tuple[int, int] = (0, 0)
    cost_nano_usd: tuple[int, int] = (0, 0)
    #: What clients are billed.
    billed_nano_usd: int = 0

    def found(self, what: str, about: object) -> None:
        self.counts[f"! {what}"] += 1
        self.findings.append(f"{what}: {about}")


def audit(
    rows: Sequence[dict[str, Any]],
    served: Sequence[dict[str, Any]],
    told: Sequence[Told],
    *,
    kills_s: Sequence[float],
    prices: Prices,
) -> Audit:
    """Compare.

    ``rows`` are the ledger's, in order; ``served`` is the upstream's record of attempts; ``kills_s`` says when workers
    were killed, by the system's monotonic clock.
    """
    result = Audit()
    last = _last_of_each(rows, result)
    _compare_attempts(_attempts(last, result), _by_id(served, result), result, prices)
    _compare_clients(last, told, result)
    _explain_lost(last, served, told, kills_s, result)
    result.billed_nano_usd = sum(row["cost_nano_usd"] or 0 for row in last.values())
    return result


def _last_of_each(rows: Sequence[dict[str, Any]], result: Audit) -> dict[str, dict[str, Any]]:
    """The row that counts of each request. A second one is right only if it is the late end of one that was lost."""
    last: dict[str, dict[str, Any]] = {}
    for row in rows:
        before = last.get(row["id"])
        is_late = row.get("late", False)
        if before is not None and not (is_late and before["state"] == "lost" and "late" not in before):
            result.found("two rows of one request", (before, row))
        elif before is None and is_late:
            result.found("a late row of a request that was never lost", row)
        last[row["id"]] = row
        result.counts["late"] += is_late
    result.counts["rows"] = len(rows)
    result.counts["requests"] = len(last)
    lost = [row for row in last.values() if row["state"] == "lost"]
    result.counts["lost"] = len(lost)
    result.counts["lost before the first attempt"] = sum(not row["attempts"] for row in lost)
    return last


def _attempts(last: Mapping[str, dict[str, Any]], result: Audit) -> dict[str, dict[str, Any]]:
    """The ledger's attempts by the id under which the upstream saw them."""
    attempts: dict[str, dict[str, Any]] = {}
    for row in last.values():
        for attempt in row["attempts"]:
            name = f"{row['id']}.{attempt['n']}"
            if name in attempts:
                result.found("an attempt twice in one row", row)
            attempts[name] = attempt
    return attempts


def _by_id(served: Sequence[dict[str, Any]], result: Audit) -> dict[str, dict[str, Any]]:
    by_id: dict[str, dict[str, Any]] = {}
    for attempt in served:
        name = attempt["headers"].get("x-client-request-id", "")
        if (before := by_id.get(name)) is not None:
            # On a connection that was idle and broke before a word of an answer, it may not have been seen at all.
            if before["status"] is not None or before["outcome"] != "broken off":
                result.found("an attempt that the upstream saw twice", (before, attempt))
            result.counts["attempts sent again on a new connection"] += 1
        by_id[name] = attempt
    return by_id


def _compare_attempts(
    here: Mapping[str, dict[str, Any]], there: Mapping[str, dict[str, Any]], result: Audit, prices: Prices
) -> None:
    result.counts["attempts here"], result.counts["attempts there"] = len(here), len(there)
    for name in there.keys() - here.keys():
        result.found("served, and not in the ledger", there[name])
    for name in here.keys() - there.keys():
        if here[name]["state"] not in _UNSENT or here[name]["usage"] is not None:
            result.found("in the ledger, and never seen by the upstream", (name, here[name]))
        result.counts["attempts never sent"] += 1
    for name in here.keys() & there.keys():
        _compare_attempt(name, here[name], there[name], result, prices)


def _compare_attempt(name: str, here: dict[str, Any], there: dict[str, Any], result: Audit, prices: Prices) -> None:
    usage, said = here["usage"], there["usage"]
    both = (name, here, {key: there[key] for key in ("outcome", "status", "tokens", "usage", "stream", "body")})
    if usage is None:
        is_excused = here["state"] in _UNSENT or here["state"] == "upstream_timeout"
        if here["state"] == "ok" or (said is not None and not is_excused):
            result.found("answered, and its usage not known", both)
        result.counts[f"usage not known: {here['state']}"] += 1
        return
    cost = sum(
        n * price for n, price in zip((usage["prompt"], usage["completion"]), prices[here["deployment"]], strict=True)
    )
    if here["cost_nano_usd"] != cost:
        result.found("a wrong cost", both)
    if here["estimated"]:
        _check_estimate(here, there, both, result)
        return
    if said is None or [usage["prompt"], usage["completion"]] != said:
        result.found("another usage than the upstream said", both)
        return
    result.counts["attempts that agree"] += 1
    own = sum(n * price for n, price in zip(said, prices[here["deployment"]], strict=True))
    result.tokens = result.tokens[0] + usage["prompt"] + usage["completion"], result.tokens[1] + sum(said)
    result.cost_nano_usd = result.cost_nano_usd[0] + here["cost_nano_usd"], result.cost_nano_usd[1] + own


def _check_estimate(here: dict[str, Any], there: dict[str, Any], both: object, result: Audit) -> None:
    """What was delivered before the upstream could count it: never more than the upstream sent."""
    result.counts[f"usage counted by us: {here['state']}"] += 1
    if here["state"] == "ok" and there["usage"] is not None:
        result.found("estimated, and the upstream said it", both)
    if there["stream"]:
        completion, most = here["usage"]["completion"], _estimate(there["tokens"])
        if completion > most or (here["state"] == "ok" and completion != most):
            result.found("an estimate that is not what was delivered", both)


def _estimate(tokens: int) -> int:
    """What is billed for so many tokens of the canonical text, each a piece of its own, that nobody has counted."""
    return max(tokens, tokens * len(TOKENS[0]) // 4)


def _compare_clients(last: Mapping[str, dict[str, Any]], told: Sequence[Told], result: Audit) -> None:
    for one in told:
        result.counts[f"clients: {one.end}"] += 1
        row = None if one.request_id is None else last.get(one.request_id)
        if one.end != "whole":
            continue
        if row is None or row["state"] != "ok" or row["answered"] is None:
            result.found("a whole answer, and no row that says so", (one, row))
            continue
        usage, cost = row["usage"], row["cost_nano_usd"]
        went_on = [attempt for attempt in row["attempts"] if attempt.get("way") == "replay"]
        counted = went_on[-1] if went_on else row["attempts"][row["answered"] - 1]
        if usage != counted["usage"]:
            result.found("billed another usage than its attempt's", row)
        if one.usage is not None and (usage["prompt"], usage["completion"]) != one.usage:
            result.found("billed another usage than its client was told", (one, row))
        if one.cost_usd is not None and abs(one.cost_usd * 10**9 - cost) > 0.5:
            result.found("billed another cost than its client was told", (one, row))
    result.counts["state ok"] = sum(row["state"] == "ok" for row in last.values())


def _explain_lost(
    last: Mapping[str, dict[str, Any]],
    served: Sequence[dict[str, Any]],
    told: Sequence[Told],
    kills_s: Sequence[float],
    result: Audit,
) -> None:
    """A request may be lost if its client, as far as it is known who that was, was there when a worker was killed."""
    whose = {one.request_id: one for one in told if one.request_id is not None}
    by_number = {one.question.number: one for one in told}
    for attempt in served:
        request_id = attempt["headers"].get("x-client-request-id", "").rpartition(".")[0]
        whose.setdefault(request_id, by_number[attempt["body"]["x_number"]])
    explained = {one.question.number for one in whose.values()}
    suspects = sum(1 for one in told if one.question.number not in explained and _may_be_lost(one, kills_s))
    for request_id, row in last.items():
        if row["state"] != "lost":
            continue
        if (one := whose.get(request_id)) is None:
            suspects -= 1
        elif not _may_be_lost(one, kills_s):
            result.found("lost, and nobody was killed", (one, row))
    if suspects < 0:
        result.found("more lost than there were clients of killed workers", -suspects)


def _may_be_lost(one: Told, kills_s: Sequence[float]) -> bool:
    if one.end == "broken":
        return any(one.began_s <= kill_s <= one.ended_s <= kill_s + _NOTICED_S for kill_s in kills_s)
    return one.end == "left" and any(one.began_s <= kill_s <= one.ended_s + _NOTICED_S for kill_s in kills_s)


def differences(result: Audit, *, at_most: int = 20) -> Iterator[str]:
    """The findings for people, the first few of each kind."""
    kinds: defaultdict[str, int] = defaultdict(int)
    for finding in result.findings:
        kind = finding.partition(":")[0]
        kinds[kind] += 1
        if kinds[kind] <= at_most:
            yield finding
