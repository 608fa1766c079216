"""When the same deployment is asked again, after which wait, and how often."""

import pytest
from scripted_upstreams import (
    ANSWERS,
    Fails,
    Rig,
    Turn,
    broken,
    failed,
    forbidden,
    full,
    misconfigured,
    quota,
    refused,
    slow,
    throttled,
    unauthorized,
    unreachable,
)

from genkan.config import BreakerConfig, RetryConfig
from genkan.errors import RequestError

pytestmark = pytest.mark.anyio

PATIENT = BreakerConfig(consecutive_failures=1000, alone_failures=1000, min_attempts=1000)


@pytest.mark.parametrize("error", [unreachable, broken, failed(500), failed(503), failed(529), throttled(0.0)])
async def test_a_failure_that_may_be_over_soon_is_tried_again(error: Fails) -> None:
    rig = Rig()
    rig.add("a", error, ANSWERS)
    answer, walk = await rig.ask()
    await answer.aclose()
    assert (walk.attempts, walk.fell_back_because) == (2, None)
    assert (rig.told.retries, rig.told.fallbacks) == (["a@a.up"], [])
    (wait_s,) = rig.clock.slept_s
    assert 0 <= wait_s <= 0.25
    assert rig.is_at_rest()


@pytest.mark.parametrize(
    "error",
    [full, slow, failed(408), failed(504), misconfigured, unauthorized, forbidden, quota, refused("engine_error", 500)],
)
async def test_a_failure_that_will_not_be_over_soon_is_not(error: Fails) -> None:
    rig = Rig()
    rig.add("a", error, ANSWERS)
    with pytest.raises(RequestError):
        await rig.ask()
    assert (rig.asked, rig.clock.slept_s, rig.told.retries) == ({"a": 1}, [], [])


async def test_there_are_no_more_retries_than_set() -> None:
    rig = Rig(retry=RetryConfig(max_retries=3))
    rig.add("a", failed(), breaker=PATIENT)
    with pytest.raises(RequestError) as caught:
        await rig.ask()
    assert (rig.asked, caught.value.attempts, len(rig.clock.slept_s)) == ({"a": 4}, 4, 3)
    for place, wait_s in enumerate(rig.clock.slept_s):
        assert 0 <= wait_s <= 0.25 * 2**place


async def test_a_deployment_whose_breaker_opened_by_the_failure_is_not_tried_again() -> None:
    rig = Rig()
    place = rig.add("a", failed())
    with pytest.raises(RequestError):
        await rig.ask()
    assert (rig.asked, place.state) == ({"a": 2}, "open")


@pytest.mark.parametrize("error", [failed(503, 2.0), throttled(2.0)])
async def test_an_upstream_is_not_asked_before_it_said(error: Fails) -> None:
    rig = Rig()
    place = rig.add("a", error, ANSWERS)
    assert await rig.answered_by() == "a"
    first_s, second_s = place.upstream.asked_at_s
    assert 2.0 <= second_s - first_s <= 2.25


async def test_one_that_had_enough_and_did_not_say_for_how_long_gets_a_second() -> None:
    rig = Rig()
    place = rig.add("a", throttled(None), ANSWERS)
    assert await rig.answered_by() == "a"
    first_s, second_s = place.upstream.asked_at_s
    assert 1.0 <= second_s - first_s <= 1.25
    assert rig.asked == {"a": 2}


@pytest.mark.parametrize("error", [failed(503, 5.5), throttled(5.5)])
async def test_a_wait_that_is_too_long_is_passed_on(error: Fails) -> None:
    rig = Rig()
    rig.add("a", error, ANSWERS)
    with pytest.raises(RequestError) as caught:
        await rig.ask()
    assert (caught.value.retry_after_s, caught.value.should_retry) == (5.5, None)
    assert (rig.asked, rig.clock.slept_s) == ({"a": 1}, [])


async def test_our_own_advice_to_clients_is_not_the_upstreams_word() -> None:
    rig = Rig()
    rig.add("a", unreachable, ANSWERS)
    assert await rig.answered_by() == "a"
    assert rig.clock.slept_s[0] <= 0.25


async def test_if_the_first_wants_too_long_a_wait_the_next_is_tried_again() -> None:
    rig = Rig()
    rig.add("a", throttled(60.0))
    rig.add("b", failed(), ANSWERS)
    assert await rig.answered_by() == "b"
    assert rig.asked == {"a": 1, "b": 2}


async def test_a_wait_that_the_deadline_does_not_allow_is_not_begun() -> None:
    rig = Rig(total_s=10.0)
    rig.add("a", Turn(failed(503, 4.0), takes_s=7.0), ANSWERS)
    with pytest.raises(RequestError) as caught:
        await rig.ask()
    assert caught.value.code == "upstream_unavailable"
    assert rig.clock.slept_s == []


async def test_a_retry_that_finds_fault_with_the_request_does_not_hide_the_failure() -> None:
    rig = Rig()
    rig.add("a", failed(), refused("x"))
    with pytest.raises(RequestError) as caught:
        await rig.ask()
    assert caught.value.code == "upstream_error"


async def test_retries_of_all_requests_stay_within_the_budget() -> None:
    rig = Rig(retry=RetryConfig(max_retries=1, budget_ratio=0.2, budget_min=3, backoff_s=0.001))
    rig.add("a", failed(), breaker=PATIENT)
    for _ in range(100):
        with pytest.raises(RequestError):
            await rig.ask()
    assert rig.asked["a"] - 100 == len(rig.told.retries) == 20


async def test_a_first_attempt_at_each_is_not_charged_to_the_budget() -> None:
    rig = Rig(retry=RetryConfig(budget_ratio=0, budget_min=0))
    rig.add("a", failed(), breaker=PATIENT)
    rig.add("b")
    assert [await rig.answered_by() for _ in range(20)] == ["b"] * 20
    rig.places["b"].upstream._turns[0] = Turn(failed())
    with pytest.raises(RequestError):
        await rig.ask()
    assert rig.told.retries == []


async def test_an_outage_of_a_minute_costs_three_attempts_with_another_at_hand() -> None:
    rig = Rig()
    place = rig.add("a", failed(503))
    rig.add("b")
    for _ in range(600):
        assert await rig.answered_by() == "b"
        rig.clock.now_s += 0.1
    assert rig.asked["a"] <= 3
    assert place.state != "closed"


async def test_the_first_of_the_chain_is_back_within_one_probe_of_being_well() -> None:
    rig = Rig()
    place = rig.add("a", failed(), failed(), ANSWERS)
    rig.add("b")
    answers = []
    for _ in range(40):
        answers.append(await rig.answered_by())
        rig.clock.now_s += 1.0
    assert answers == ["b"] * 31 + ["a"] * 9
    assert place.state == "closed"
