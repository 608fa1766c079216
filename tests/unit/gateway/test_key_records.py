"""A key's record: what is written can be read, and nothing else."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from genkan.config import BudgetConfig, LimitConfig
from genkan.gateway.api_key import ApiKey
from genkan.gateway.key_records import NewKey, ended_s, read_record, shown, to_json, write_record

PLAIN = ApiKey(id="key_0123456789abcdef", hint="aB3d", tenant="acme", created_s=1_700_000_000.125)
FULL = ApiKey(
    id="key_fedcba9876543210",
    hint="9xYz",
    tenant="a/b:c",
    name="Zoë's “test”",
    role="admin",
    created_s=1.5,
    expires_s=2.5,
    revoked_s=2.0,
    models=("m", "route"),
    limits=LimitConfig.model_validate({"requests": {"limit": 3, "burst": 9}, "concurrent": 2}),
    budgets=tuple(
        BudgetConfig.model_validate({"per": "day", "usd": usd}) for usd in (0.42, 0.000001, 999_999.123456, 5)
    ),
)


@pytest.mark.parametrize("key", [PLAIN, FULL], ids=["plain", "full"])
def test_what_is_written_is_read_again(key: ApiKey) -> None:
    assert read_record(write_record(key)) == key


def test_money_is_exact() -> None:
    assert [budget.usd for budget in read_record(write_record(FULL)).budgets] == [
        Decimal("0.42"), Decimal("0.000001"), Decimal("999999.123456"), Decimal(5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"role": "root"}, {"tenant": 5}, {"budgets": [{"per": "year"}]}, {"only_from": "10.0.0.0/8"}, {"models": "all"}],
    ids=str,
)
def test_a_record_that_says_what_is_not_understood_is_refused(change: dict[str, Any]) -> None:
    record = {**json.loads(write_record(PLAIN)), **change}
    with pytest.raises(ValueError, match="not the record of an API key"):
        read_record(json.dumps(record).encode())


@pytest.mark.parametrize("record", [b"", b"{}", b"[]", b"\xff", b"null"])
def test_garbage_is_refused(record: bytes) -> None:
    with pytest.raises(ValueError, match="not the record of an API key"):
        read_record(record)


@pytest.mark.parametrize(
    ("expires_s", "revoked_s", "expected"), [(None, None, None), (5.0, None, 5.0), (None, 4.0, 4.0), (5.0, 4.0, 4.0)]
)
def test_a_key_ends_when_it_expires_or_is_revoked(
    expires_s: float | None, revoked_s: float | None, expected: float | None
) -> None:
    key = ApiKey(id="k", hint="", tenant="t", created_s=0, expires_s=expires_s, revoked_s=revoked_s)
    assert ended_s(key) == expected


def test_people_see_everything_but_the_key() -> None:
    assert json.loads(to_json(shown(FULL, 2.2))) == {
        "id": "key_fedcba9876543210", "object": "api_key", "hint": "…9xYz", "tenant": "a/b:c", "name": "Zoë's “test”",
        "role": "admin", "state": "revoked", "created_at": 1.5, "expires_at": 2.5, "revoked_at": 2.0,
        "models": ["m", "route"],
        "limits": {"requests": {"limit": 3, "window_s": 60, "burst": 9, "algorithm": "token_bucket"}, "concurrent": 2},
        "budgets": [{"per": "day", "usd": usd, "warn_at": 0.8} for usd in (0.42, 0.000001, 999_999.123456, 5)],
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"tenant": "a b"},
        {"tenant": "t", "role": "root"},
        {"tenant": "t", "expires_in_s": 0},
        {"tenant": "t", "expires_in_s": float("inf")},
        {"tenant": "t", "models": ["*"]},
        {"tenant": "t", "name": "two\nlines"},
        {"tenant": "t", "id": "key_mine"},
    ],
    ids=str,
)
def test_a_new_key_is_not_asked_to_be_just_anything(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NewKey.model_validate(wrong)


def test_a_new_key_has_a_budget_once_and_an_old_one_what_it_has() -> None:
    twice = [{"per": "day", "tokens": 5}, {"per": "day", "tokens": 6}]
    with pytest.raises(ValidationError, match="more than one budget per day in tokens") as caught:
        NewKey.model_validate({"tenant": "acme", "budgets": twice})
    assert caught.value.errors()[0]["loc"] == ("budgets",)
    key = replace(PLAIN, budgets=tuple(BudgetConfig.model_validate(budget) for budget in twice))
    assert read_record(write_record(key)) == key
