"""Who gets which arm."""

import random
from collections.abc import Callable

import pytest
from canary_rigs import CanaryRig, ask
from scripted_upstreams import Fails, Turn, failed, refused

from genkan.config import Assignment
from genkan.errors import RequestError
from genkan.gateway.canary.split import Draw, drawing
from genkan.upstream.base import Answer
from genkan.upstream.refusals import CONTEXT_TOO_LONG
from genkan.wire.caller import NOBODY, Caller

MANY = 4000


def caller(number: int = 0, *, tenant: str = "acme", key_id: str | None = "key_1") -> Caller:
    return Caller(f"req_{number}", tenant, key_id)


def test_by_chance_each_request_draws_anew() -> None:
    uniform = random.Random(7).random
    draw = drawing("random", "nick", uniform)
    expected = random.Random(7)
    assert [draw(ask(), NOBODY) for _ in range(5)] == [expected.random() for _ in range(5)]


OTHERS: dict[Assignment, Callable[[int], tuple[str, Caller]]] = {
    "key": lambda number: ("", caller(key_id=f"key_{number}")),
    "tenant": lambda number: ("", caller(tenant=f"tenant-{number}")),
    "user": lambda number: (f"user-{number}", caller()),
}


@pytest.mark.parametrize("assign", OTHERS)
def test_hashed_points_are_spread_evenly_and_never_move(assign: Assignment) -> None:
    def points(draw: Draw) -> list[float]:
        asked = (OTHERS[assign](number) for number in range(MANY))
        return [draw(ask(user=user or None), who) for user, who in asked]

    drawn = points(drawing(assign, "nick"))
    assert drawn == points(drawing(assign, "nick"))  # as another worker's
    assert len(set(drawn)) == MANY
    assert all(0 <= point < 1 for point in drawn)
    for share in (0.01, 0.1, 0.5, 0.9):
        below = sum(point < share for point in drawn) / MANY
        assert below == pytest.approx(share, abs=4 * (share * (1 - share) / MANY) ** 0.5)


def test_points_are_the_same_in_any_version_and_on_any_machine() -> None:
    draw = drawing("user", "nick")
    assert draw(ask(user="ann"), caller()) == 0.11492702234153773


def test_routes_draw_independently() -> None:
    one, other = drawing("key", "nick"), drawing("key", "name")
    both = 0
    for number in range(MANY):
        who = caller(key_id=f"key_{number}")
        both += one(ask(), who) < 0.5 and other(ask(), who) < 0.5
    assert both / MANY == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / MANY) ** 0.5)


def test_who_names_no_user_is_taken_by_its_key_and_without_one_by_its_tenant() -> None:
    user, key, tenant = (drawing(assign, "nick") for assign in ("user", "key", "tenant"))
    assert user(ask(user="ann"), caller()) == user(ask(user="ann"), caller(1, key_id="key_2"))
    assert user(ask(user="ann"), caller()) != user(ask(user="ann"), caller(tenant="other"))
    assert user(ask(safety_identifier="ann"), caller()) == user(ask(user="ann"), caller())
    assert user(ask(user="", safety_identifier="ann"), caller()) == user(ask(user="ann"), caller())
    assert user(ask(), caller()) == user(ask(user=""), caller()) == key(ask(user="ann"), caller())
    keyless = caller(key_id=None)
    assert user(ask(), keyless) == key(ask(), keyless) == tenant(ask(), keyless) == tenant(ask(), caller())


def test_a_user_whose_name_is_no_text_is_drawn_too() -> None:
    assert 0 <= drawing("user", "nick")(ask(user="\ud800"), caller()) < 1


async def arm_of(rig: CanaryRig, answer: Answer) -> tuple[str, str]:
    """The arm that its client is told, and who answered."""
    assert answer.body is not None
    return dict(answer.headers)[b"x-genkan-arm"].decode(), answer.body.decode()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("share", "point", "arm"),
    [
        (0.5, 0.49, "canary"),
        (0.5, 0.5, "control"),
        (0.0, 0.0, "control"),
        (1.0, 1 - 2**-53, "canary"),
    ],
)
async def test_who_draws_below_the_share_gets_the_canary(share: float, point: float, arm: str) -> None:
    async with (rig := CanaryRig(share=share, point=point)):
        old, new = rig.scripted("up-1", Turn(takes_s=1.0)), rig.scripted("up-2", Turn(takes_s=2.0))
        answer = await rig.to(old, new).respond(ask(), NOBODY)
        assert await arm_of(rig, answer) == (arm, "up-2" if arm == "canary" else "up-1")
        (row,) = await rig.rows()
        assert row.arm == arm
    samples = {name: [one.seconds for one in getattr(rig.trial, name).samples] for name in ("control", "canary")}
    assert samples == ({"control": [], "canary": [2.0]} if arm == "canary" else {"control": [1.0], "canary": []})


@pytest.mark.anyio
@pytest.mark.parametrize("turn", [failed(), refused(CONTEXT_TOO_LONG)], ids=["fails", "smaller window"])
async def test_a_canary_that_fails_is_answered_for_and_counted(turn: Fails) -> None:
    async with (rig := CanaryRig()):
        pipeline = rig.to(rig.scripted("up-1"), rig.scripted("up-2", turn))
        answer = await pipeline.respond(ask(), NOBODY)
        assert await arm_of(rig, answer) == ("canary", "up-1")
    assert [sample.ok for sample in rig.trial.canary.samples] == [False]
    assert rig.trial.control.samples == []


@pytest.mark.anyio
async def test_a_canary_that_refuses_has_failed_and_its_refusal_names_it() -> None:
    async with (rig := CanaryRig()):
        pipeline = rig.to(rig.scripted("up-1"), rig.scripted("up-2", refused()))
        with pytest.raises(RequestError) as caught:
            await pipeline.respond(ask(), NOBODY)
    assert (b"x-genkan-arm", b"canary") in caught.value.headers
    assert [sample.ok for sample in rig.trial.canary.samples] == [False]
