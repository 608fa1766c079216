"""What rows add up to."""

import json
from collections import Counter
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_rows import DAY_1, attempt, failed, lost_row, numbered, row, stored_row

from genkan.gateway.ledger_report import BYS, By, Sums, Totals, report, savings

DAY_S = 86_400


def totals_of(*rows: bytes) -> Totals:
    totals = Totals()
    totals.feed(numbered(*rows))
    return totals


def test_nothing_adds_up_to_nothing() -> None:
    totals = Totals()
    assert (totals.cursor, totals.malformed, totals.first_s, totals.total()) == ("", 0, None, Sums())
    assert all(totals.by(by) == {} for by in BYS)


def test_counts_everything_of_a_request() -> None:
    assert totals_of(row()).total() == Sums(
        requests=1,
        prompt_tokens=10,
        completion_tokens=5,
        cached_tokens=4,
        cost_nano_usd=54_000,
        saved_nano_usd=6_000,
    )


def test_a_request_is_billed_once_however_many_attempts_it_took() -> None:
    total = totals_of(row(attempts=[attempt(1), attempt(2)])).total()
    assert (total.requests, total.prompt_tokens, total.cost_nano_usd) == (1, 10, 54_000)


@pytest.mark.parametrize(
    ("state", "errors"), [("ok", 0), ("client_gone", 0), ("upstream_timeout", 1), ("internal_error", 1)]
)
def test_what_is_an_error(state: str, errors: int) -> None:
    assert totals_of(row(state=state)).total().errors == errors


def test_a_cost_that_is_not_known_is_counted_and_never_zero() -> None:
    total = totals_of(row("a", cost_nano_usd=None), row("b", cost_nano_usd=0), row("c", attempts=[failed()])).total()
    assert (total.unknown_cost, total.cost_nano_usd, total.requests, total.errors) == (1, 0, 3, 1)


@pytest.mark.parametrize(
    ("by", "name"),
    [
        ("model", "gpt-4.1"),
        ("key", "key_1"),
        ("tenant", "acme"),
        ("route", "default"),
        ("day", "2026-11-30"),
    ],
)
def test_groups_by(by: By, name: str) -> None:
    other = row("b", tenant="b", key=None, route="b", t=DAY_1 + DAY_S, attempts=[attempt(deployment="b@openai")])
    groups = totals_of(row("a"), other).by(by)
    assert len(groups) == 2
    assert groups[name].requests == 1


def test_the_model_is_that_which_answered_wherever_it_was_served() -> None:
    rows = [row("a", attempts=[failed(1, "a@x"), attempt(2, "b@y")]), row("b", attempts=[attempt(1, "b@x")])]
    assert list(totals_of(*rows).by("model")) == ["b"]


def test_without_key_or_model_the_name_is_none() -> None:
    totals = totals_of(row(key=None, attempts=[], state="no_healthy_upstream"))
    assert list(totals.by("key")) == list(totals.by("model")) == [None]


def test_the_dearest_come_first_and_days_in_order() -> None:
    rows = [row(str(day), tenant=str(day), t=DAY_1 + day * DAY_S, cost_nano_usd=day % 3) for day in (2, 0, 1)]
    totals = totals_of(*rows)
    assert list(totals.by("tenant")) == ["2", "1", "0"]
    assert list(totals.by("day")) == ["2026-11-30", "2026-12-01", "2026-12-02"]


def test_days_are_those_of_utc_and_both_ends_are_included() -> None:
    ends = [DAY_1 - 0.001, DAY_1, DAY_1 + DAY_S - 0.001, DAY_1 + DAY_S]
    totals = totals_of(*(row(str(t), t=t) for t in ends))
    day = date(2026, 11, 30)
    assert totals.total(since=day, until=day).requests == 2
    assert totals.total(since=day).requests == totals.total(until=day).requests == 3


def test_malformed_rows_are_counted_and_skipped_over() -> None:
    totals = totals_of(b"{", row(), b"[]", row("b", usage=1))
    assert (totals.malformed, totals.total().requests, totals.cursor) == (3, 1, "1-4")


def test_a_late_row_takes_the_place_of_the_lost_one() -> None:
    totals = totals_of(lost_row(t=DAY_1 - DAY_S, key="key_2"), row("b"))
    assert (totals.total().requests, totals.total().lost) == (2, 1)
    totals.feed(numbered(row(late=True)))
    assert (totals.total().requests, totals.total().lost, totals.total().cost_nano_usd) == (2, 0, 108_000)
    assert list(totals.by("key")) == ["key_1"]
    assert list(totals.by("day")) == ["2026-11-30"]


def test_a_request_that_is_found_to_be_lost_is_lost_once() -> None:
    totals = totals_of(lost_row(), lost_row(late=True))
    assert (totals.total().requests, totals.total().lost) == (1, 1)
    totals.feed(numbered(row(late=True)))
    assert totals.total() == totals_of(row()).total()


def test_remembers_lost_ids_for_eight_days_only() -> None:
    totals = totals_of(*(lost_row(str(day), t=DAY_1 + day * DAY_S) for day in range(100)))
    assert len(totals._lost) == 9
    totals.feed(numbered(*(row(str(day), late=True, t=DAY_1 + 100 * DAY_S) for day in range(91, 100))))
    assert (totals.total().lost, totals._lost) == (91, {})


def test_memory_is_of_combinations_and_not_of_requests() -> None:
    totals = totals_of(*(row(f"req_{number}") for number in range(1000)))
    assert (len(totals._cells), len(totals._lost)) == (1, 0)


def test_forgets_days_that_the_ledger_no_longer_has() -> None:
    totals = totals_of(row("a", t=DAY_1 - DAY_S), lost_row("b", t=DAY_1 - DAY_S), row("c"))
    totals.forget_before(date(2026, 11, 30))
    assert (totals.total().requests, totals.first_s) == (1, DAY_1)
    totals.feed(numbered(row("b", late=True)))  # what it replaces is gone
    assert (totals.total().requests, totals.total().lost) == (2, 0)
    totals.forget_before(date(2027, 1, 1))
    assert (totals.total(), totals.first_s) == (Sums(), None)


_ROWS = st.lists(
    st.tuples(
        st.integers(0, 5),  # which request
        st.sampled_from(["a", "b"]),  # tenant
        st.sampled_from([None, "k"]),
        st.sampled_from(["m@x", "n@y"]),
        st.integers(-2, 2),  # day
        st.one_of(st.none(), st.integers(0, 10**12)),  # cost
        st.booleans(),  # lost before
    ),
    max_size=30,
)


@given(_ROWS, st.integers(1, 7))
def test_any_pages_and_any_grouping_agree_with_adding_up_the_last_row_of_each_id(
    drawn: list[tuple[int, str, str | None, str, int, int | None, bool]], page: int
) -> None:
    rows, last = [], dict[str, dict[str, Any]]()
    for place, (name, tenant, key, deployment, day, cost, was_lost) in enumerate(drawn):
        given = {"tenant": tenant, "key": key, "t": DAY_1 + day * DAY_S}
        if was_lost:
            rows.append(lost_row(f"{name}-{place}", **given))
        rows.append(
            row(f"{name}-{place}", attempts=[attempt(deployment=deployment)], **given | {"cost_nano_usd": cost})
        )
        last[f"{name}-{place}"] = json.loads(rows[-1])
    totals, entries = Totals(), numbered(*rows)
    for start in range(0, len(entries), page):
        totals.feed(entries[start : start + page])
    assert totals.total().requests == len(last)
    assert totals.total().lost == 0
    assert totals.total().cost_nano_usd == sum(found["cost_nano_usd"] or 0 for found in last.values())
    assert totals.total().unknown_cost == sum(found["cost_nano_usd"] is None for found in last.values())
    of_tenants = {name: sums.requests for name, sums in totals.by("tenant").items()}
    assert of_tenants == Counter(found["tenant"] for found in last.values())
    for by in BYS:
        added = Sums()
        for sums in totals.by(by).values():
            added.add(sums)
        assert added == totals.total()


def test_a_report_is_json_with_money_in_both_units() -> None:
    answer = json.loads(json.dumps(report(totals_of(row(), b"{"), "tenant", since=date(2026, 11, 1))))
    assert answer["by"] == "tenant"
    assert (answer["since"], answer["until"], answer["first"]) == ("2026-11-01", None, "2026-11-30T00:01:00+00:00")
    assert answer["groups"] == [{"tenant": "acme", **answer["total"]}]
    assert answer["malformed"] == 1
    assert answer["total"]["cost_nano_usd"] == 54_000
    assert answer["total"]["cost_usd"] == 0.000054


def test_savings_by_model_and_in_all() -> None:
    own = attempt(deployment="smollm2@engine", cost_nano_usd=0)
    answer = savings(totals_of(row("a"), row("b", attempts=[own], saved_nano_usd=0)))
    assert answer["since"] == "2026-11-30T00:01:00+00:00"
    assert (answer["requests"], answer["saved_tokens"], answer["saved_nano_usd"]) == (2, 8, 6_000)
    assert answer["saved_usd"] == 0.000006
    assert [(model["model"], model["saved_tokens"]) for model in answer["models"]] == [("gpt-4.1", 4), ("smollm2", 4)]


def test_sums_without_bound_can_be_written() -> None:
    largest = {"prompt": 2**63, "completion": 2**63, "cached": 0, "cache_write": 0}
    answer = report(totals_of(*(row(str(number), usage=largest) for number in range(3))), "model")
    assert json.loads(json.dumps(answer))["total"]["prompt_tokens"] == 3 * 2**63


def test_stored_answers_are_counted_apart() -> None:
    totals = Totals()
    totals.feed([("1-0", row("a")), ("2-0", stored_row("b")), ("3-0", stored_row("c", tier="shared"))])
    total = totals.total()
    assert (total.requests, total.prompt_tokens, total.completion_tokens, total.cost_nano_usd) == (3, 10, 5, 54_000)
    assert (total.stored_answers, total.stored_tokens, total.stored_saved_nano_usd) == (2, 30, 108_000)
    assert total.saved_nano_usd == 6_000
    assert list(totals.by("model")) == ["gpt-4.1"]
