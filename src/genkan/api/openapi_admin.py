"""What administrators can ask, operation by operation, and what they get, for `openapi.py`."""

from typing import Final, get_args

from genkan.api.admin_canary import CANARY_PATH
from genkan.api.admin_drain import DRAIN_PATH
from genkan.api.admin_keys import KEYS_PATH
from genkan.api.admin_ledger import MOST_ROWS
from genkan.api.openapi_operations import ALWAYS, JSON, OF_ADMINS, WITH_BODY, Operation, Parameter
from genkan.api.openapi_shapes import (
    ANY_OBJECT,
    COUNT,
    FLAG,
    NUMBER,
    TEXT,
    Schema,
    answer,
    list_of,
    number,
    or_null,
    ref,
    whole,
)
from genkan.cost_comparison import PARAMETERS
from genkan.gateway.canary.record import Action
from genkan.gateway.key_records import NewKey
from genkan.gateway.ledger_report import BYS, COUNTERS

_NDJSON: Final = "application/x-ndjson"
_CSV: Final = "text/csv"
_HTML: Final = "text/html"
_KEY_PATH: Final = f"{KEYS_PATH}/{{id}}"
_ROUTE_PATH: Final = f"{CANARY_PATH}/{{route}}"
_KEY_ID: Final = Parameter(name="id", schema=TEXT, meaning="As the key's record has it.", place="path", required=True)
_ROUTE: Final = Parameter(name="route", schema=TEXT, meaning="May have slashes.", place="path", required=True)
_TENANT: Final = Parameter(name="tenant", schema=TEXT, meaning="Only what belongs to one.")
_MODEL: Final = Parameter(name="model", schema=TEXT, meaning="One of several models of the engine.")
_DAY: Final[Schema] = {"type": "string", "format": "date"}
_ERRORS: Final = ALWAYS + OF_ADMINS


def _admin(
    route: str,
    method: str,
    summary: str,
    answers: Schema | dict[str, Schema],
    *parameters: Parameter,
    path: str = "",
    body: Schema | None = None,
    body_is_optional: bool = False,
    status: int = 200,
    errors: tuple[int | str, ...] = (),
) -> Operation:
    return Operation(
        route=route,
        path=path,
        method=method,
        tag="administration",
        summary=summary,
        parameters=parameters,
        body=body,
        body_is_optional=body_is_optional,
        status=status,
        answers=answers if all("/" in name for name in answers) else {JSON: answers},
        errors=_ERRORS + errors + (WITH_BODY if body is not None else ()),
        is_public=False,
    )


def _comparing() -> tuple[Parameter, ...]:
    """The query of a comparison of costs, from the table that the command line has it from too."""
    return tuple(
        Parameter(
            name=known.name,
            schema=whole(int(known.low), int(known.high)) if known.is_whole else number(known.low, known.high),
            meaning=known.meaning,
        )
        for known in PARAMETERS
    )


OPERATIONS: Final[tuple[Operation, ...]] = (
    _admin(KEYS_PATH, "GET", "The records of all API keys", ref("Keys"), _TENANT),
    _admin(KEYS_PATH, "POST", "Make a key, which is shown this once", ref("IssuedKey"), body=ref("NewKey"), status=201),
    _admin(f"{KEYS_PATH}/*", "DELETE", "End a key now", ref("Key"), _KEY_ID, path=_KEY_PATH, errors=(404,)),
    _admin(
        f"{KEYS_PATH}/*",
        "POST",
        "A new key in the place of one",
        ref("IssuedKey"),
        _KEY_ID,
        path=f"{_KEY_PATH}/rotate",
        body=answer((), {"grace_s": {**number(0, 365 * 86_400), "description": "How long the old one is still good."}}),
        body_is_optional=True,
        status=201,
        errors=(404,),
    ),
    _admin("/admin/limits", "GET", "Every limit and budget, and what is left of it", ref("Limits"), _TENANT),
    _admin(
        "/admin/ledger",
        "GET",
        "Rows of the ledger after a cursor; `x-genkan-cursor` is the next one",
        {_NDJSON: TEXT, _CSV: TEXT},
        Parameter(
            name="after", schema={**TEXT, "pattern": r"^([0-9]{1,19}-[0-9]{1,19})?$"}, meaning="A cursor; '': all."
        ),
        Parameter(name="limit", schema=whole(1, MOST_ROWS), meaning="Rows at most; 1,000 by default."),
        Parameter(name="format", schema={"enum": ["jsonl", "csv"]}, meaning="`jsonl` by default."),
        Parameter(name="attempts", schema={"enum": ["false", "true"]}, meaning="Attempts at upstreams too."),
    ),
    _admin("/admin/savings", "GET", "What prefix caches and stored answers saved", ref("Savings")),
    _admin(
        "/admin/cost/report",
        "GET",
        "Cost and savings by one thing",
        ref("CostReport"),
        Parameter(name="by", schema={"enum": [*BYS]}, meaning="`model` by default."),
        Parameter(name="since", schema=_DAY, meaning="The first day, UTC."),
        Parameter(name="until", schema=_DAY, meaning="The last day, UTC."),
    ),
    _admin(
        "/admin/cost/compare",
        "GET",
        "What a workload costs in a month with each priced model",
        ref("CostComparison"),
        *_comparing(),
    ),
    _admin("/admin/cache", "GET", "What is stored of answers", ref("StoredAnswers")),
    _admin(
        "/admin/cache",
        "DELETE",
        "Forget stored answers; exactly one of the parameters says which",
        answer(("purged",), {"purged": ANY_OBJECT}),
        Parameter(name="tenant", schema=TEXT, meaning="Those of a tenant."),
        Parameter(name="route", schema=TEXT, meaning="Those of a route."),
        Parameter(name="all", schema={"const": "true"}, meaning="All of them."),
    ),
    _admin(
        "/admin/prefix-cache",
        "GET",
        "What the engine's prefix cache holds: a page for browsers, else JSON",
        {JSON: ref("PrefixCache"), _HTML: TEXT},
        Parameter(name="format", schema={"enum": ["json", "html"]}, meaning="In the place of the header `accept`."),
        _MODEL,
        errors=(404, 502, 504),
    ),
    _admin(
        "/admin/prefix-cache",
        "DELETE",
        "Drop a tenant's pages",
        answer(("tenant", "purged_pages"), {"tenant": TEXT, "purged_pages": COUNT}),
        Parameter(name="tenant", schema={**TEXT, "minLength": 1}, meaning="Whose.", required=True),
        _MODEL,
        errors=(404, 502, 504),
    ),
    _admin(CANARY_PATH, "GET", "The reports of all canaries", ref("Canaries")),
    _admin(f"{CANARY_PATH}/*", "GET", "One canary's report", ref("Canary"), _ROUTE, path=_ROUTE_PATH, errors=(404,)),
    _admin(
        f"{CANARY_PATH}/*",
        "POST",
        "Decide a canary, whatever its figures say",
        ref("Canary"),
        _ROUTE,
        path=_ROUTE_PATH,
        body=answer(("action",), {"action": {"enum": [*get_args(Action)]}}),
        errors=(404,),
    ),
    _admin(DRAIN_PATH, "GET", "Whether this server drains, and what its workers do", ref("Drain")),
    _admin(
        DRAIN_PATH,
        "POST",
        "Have this server be left alone: /readyz is 503",
        ref("Drain"),
        body={"type": "object", "additionalProperties": False},
        body_is_optional=True,
    ),
    _admin(DRAIN_PATH, "DELETE", "Serve as before", ref("Drain")),
)

_MONEY: Final = dict.fromkeys(("cost_usd", "saved_usd", "stored_saved_usd"), NUMBER)
_WHOLE: Final[Schema] = {"type": "integer"}
_SUMS: Final = answer((*COUNTERS, *_MONEY), {**dict.fromkeys(COUNTERS, _WHOLE), **_MONEY})
_KEY: Final = {
    "id": TEXT,
    "object": {"const": "api_key"},
    "hint": TEXT,
    "tenant": TEXT,
    "name": TEXT,
    "role": {"enum": ["user", "admin"]},
    "state": {"enum": ["active", "revoked", "expired"]},
    "created_at": NUMBER,
    "expires_at": or_null(NUMBER),
    "revoked_at": or_null(NUMBER),
    "models": or_null(list_of(TEXT)),
    "limits": or_null(ANY_OBJECT),
    "budgets": list_of(ANY_OBJECT),
}
_LIST: Final = ("object", "data")


def _new_key() -> dict[str, Schema]:
    """What a key may be asked to be, and the parts of it, as the class has them that reads it."""
    schema = NewKey.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "NewKey": schema}


def _listed(item: Schema) -> Schema:
    return answer(_LIST, {"object": {"const": "list"}, "data": list_of(item)})


SCHEMAS: Final[dict[str, Schema]] = {
    **_new_key(),
    "Key": answer(tuple(_KEY), _KEY),
    "IssuedKey": answer(("key", *_KEY), {"key": TEXT, **_KEY}),
    "Keys": _listed(ref("Key")),
    "Limits": answer(
        ("groups", "truncated"),
        {
            "groups": list_of(
                answer(
                    ("name", "limits", "budgets"),
                    {"name": TEXT, "limits": list_of(ANY_OBJECT), "budgets": list_of(ANY_OBJECT)},
                )
            ),
            "truncated": FLAG,
        },
    ),
    "Savings": answer(("since", "requests", "models"), {"since": or_null(TEXT), "models": list_of(ANY_OBJECT)}),
    "CostReport": answer(
        ("by", "since", "until", "first", "groups", "total", "malformed"),
        {
            "by": {"enum": [*BYS]},
            "since": or_null(TEXT),
            "until": or_null(TEXT),
            "first": or_null(TEXT),
            "groups": list_of(_SUMS),
            "total": _SUMS,
            "malformed": COUNT,
        },
    ),
    "CostComparison": answer(
        ("workload", "self_hosting", "currency", "rows"),
        {
            "workload": ANY_OBJECT,
            "self_hosting": or_null(ANY_OBJECT),
            "currency": {"const": "USD"},
            "rows": list_of(answer(("model", "upstream", "basis"), {"model": TEXT, "upstream": or_null(TEXT)})),
        },
    ),
    "StoredAnswers": answer(
        ("entries", "bytes", "is_complete"),
        {"entries": COUNT, "bytes": COUNT, "is_complete": FLAG, "questions": ANY_OBJECT},
    ),
    "PrefixCache": answer(
        ("models", "model", "blocks", "block_size", "pages", "statistics", "namespaces", "truncated"),
        {"models": list_of(TEXT), "model": TEXT, "namespaces": list_of(ANY_OBJECT), "truncated": FLAG},
    ),
    "Canary": answer(("route", "mode", "state", "share", "is_current"), {"route": TEXT, "is_current": FLAG}),
    "Canaries": _listed(ref("Canary")),
    "Drain": answer(
        ("object", "draining", "since", "requests", "connections", "workers"),
        {
            "object": {"const": "drain"},
            "draining": FLAG,
            "since": or_null(NUMBER),
            "requests": COUNT,
            "connections": COUNT,
            "workers": list_of(ANY_OBJECT),
        },
    ),
}
