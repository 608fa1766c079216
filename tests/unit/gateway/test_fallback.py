"""Who is asked, in which order, and what the client gets when nobody answers."""

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
    no_retries,
    quota,
    refused,
    slow,
    throttled,
    unauthorized,
    unreachable,
)

from genkan.errors import NoUpstream, RequestError, TimedOut, UpstreamError, UpstreamFailed, UpstreamUnauthorized

pytestmark = pytest.mark.anyio

CONTEXT, FILTER = refused("context_length_exceeded"), refused("content_filter")


async def error_of(rig: Rig) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await rig.ask()
    assert rig.is_at_rest()
    return caught.value


# Who is asked


async def test_the_first_answers_and_nobody_else_is_asked() -> None:
    rig = Rig()
    rig.add("a")
    rig.add("b")
    answer, walk = await rig.ask()
    assert (answer.body, walk.attempts, walk.fell_back_because) == (b"a.up", 1, None)
    assert rig.asked == {"a": 1, "b": 0}
    assert rig.told.outcomes == [("a", "ok")]
    assert rig.told.fallbacks == []


async def test_a_deployment_is_asked_by_the_models_name_there() -> None:
    rig = Rig(total_s=7.0)
    place = rig.add("a")
    await rig.answered_by()
    assert place.upstream.asked == [("a-there", 7.0)]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (unreachable, "upstream_unreachable"),
        (full, "server_is_overloaded"),
        (slow, "upstream_timeout"),
        (broken, "upstream_invalid_response"),
        (failed(500), "upstream_error"),
        (failed(503), "upstream_unavailable"),
        (failed(408), "upstream_timeout"),
        (throttled(5.0), "upstream_rate_limited"),
        (unauthorized, "upstream_auth_error"),
        (forbidden, "upstream_auth_error"),
        (quota, "upstream_quota"),
        (misconfigured, "upstream_misconfigured"),
        (refused("engine_unavailable", status=503), "engine_unavailable"),
    ],
)
async def test_a_failure_of_the_upstreams_own_leads_to_the_next_at_once(error: Fails, outcome: str) -> None:
    rig = Rig()
    rig.add("a", error)
    rig.add("b")
    answer, walk = await rig.ask()
    await answer.aclose()
    assert walk.answered_by is rig.places["b"].deployment
    assert (walk.attempts, walk.fell_back_because) == (2, outcome)
    assert rig.told.outcomes == [("a", outcome), ("b", "ok")]
    assert rig.told.fallbacks == [("r", outcome)]
    assert (rig.clock.slept_s, rig.told.retries) == ([], [])
    assert rig.is_at_rest()


async def test_all_are_asked_before_anyone_is_asked_again() -> None:
    rig = Rig()
    for name in "abcd":
        rig.add(name, failed(), ANSWERS)
    assert await rig.answered_by() == "a"
    assert rig.asked == {"a": 2, "b": 1, "c": 1, "d": 1}
    assert rig.told.fallbacks == [("r", "upstream_error")] * 3
    assert rig.told.retries == ["a@a.up"]


# Faults of the request


@pytest.mark.parametrize(
    "error", [refused(), refused("x", status=422), refused("too_big", status=413), CONTEXT, FILTER]
)
async def test_a_fault_of_the_request_goes_to_the_client_at_once(error: Fails) -> None:
    rig = Rig(fallback_on=["error"])
    rig.add("a", error)
    rig.add("b")
    caught = await error_of(rig)
    assert (caught.message, caught.attempts) == ("refused", 1)
    assert rig.asked == {"a": 1, "b": 0}
    assert rig.places["a"].circuits.load("a@a.up").consecutive == 0


async def test_what_a_server_calls_the_fault_is_no_label() -> None:
    rig = Rig()
    rig.add("a", failed())
    rig.add("b", refused("any text at all"))
    rig.add("c")
    await rig.answered_by()
    assert rig.told.outcomes == [("a", "upstream_error"), ("b", "refused"), ("c", "ok")]
    assert rig.told.fallbacks == [("r", "upstream_error"), ("r", "refused")]


async def test_the_fault_that_only_a_substitute_finds_is_not_told_to_the_client() -> None:
    rig = Rig(retry=no_retries())
    rig.add("a", failed(503))
    rig.add("b", refused("no_such_option"))
    assert (await error_of(rig)).code == "upstream_unavailable"


async def test_a_prompt_that_is_too_long_goes_only_to_larger_windows() -> None:
    rig = Rig()
    rig.add("a", CONTEXT, context_tokens=8_000)
    rig.add("same", context_tokens=8_000)
    rig.add("smaller", context_tokens=4_000)
    rig.add("larger", CONTEXT, context_tokens=16_000)
    rig.add("between", context_tokens=12_000)
    rig.add("unknown")
    assert await rig.answered_by() == "unknown"
    assert rig.asked == {"a": 1, "same": 0, "smaller": 0, "larger": 1, "between": 0, "unknown": 1}


async def test_a_prompt_that_is_too_long_does_not_go_to_the_same_model_elsewhere() -> None:
    rig = Rig()
    rig.add("a", CONTEXT)
    rig.add("b").deployment.model = "a"
    rig.add("c")
    assert await rig.answered_by() == "c"
    assert rig.asked == {"a": 1, "b": 0, "c": 1}


async def test_a_prompt_that_is_too_long_for_all_is_the_clients_to_shorten() -> None:
    rig = Rig()
    rig.add("a", CONTEXT, context_tokens=8_000)
    rig.add("b", context_tokens=4_000)
    error = await error_of(rig)
    assert (error.status, error.code, error.should_retry) == (400, "context_length_exceeded", False)
    assert rig.clock.slept_s == []


async def test_a_route_that_does_not_go_on_for_errors_gives_them_to_the_client() -> None:
    rig = Rig(fallback_on=["context_too_long"])
    rig.add("a", failed())
    rig.add("b")
    assert (await error_of(rig)).code == "upstream_error"
    assert rig.asked == {"a": 1, "b": 0}


# Those that are being left alone


async def test_an_open_breaker_is_passed_over_without_a_word_to_the_upstream() -> None:
    rig = Rig()
    rig.add("a")
    rig.add("b")
    rig.places["a"].open_breaker(rig.clock.now_s)
    _, walk = await rig.ask()
    assert (walk.attempts, walk.fell_back_because) == (1, "unavailable")
    assert rig.asked == {"a": 0, "b": 1}
    assert rig.told.fallbacks == [("r", "unavailable")]


async def test_who_was_passed_over_for_its_breaker_is_asked_when_all_others_failed() -> None:
    rig = Rig()
    rig.add("a")
    rig.add("b", failed())
    rig.places["a"].open_breaker(rig.clock.now_s)
    _, walk = await rig.ask()
    assert walk.answered_by is rig.places["a"].deployment
    assert walk.fell_back_because is None
    assert rig.places["a"].state == "closed"
    assert rig.asked == {"a": 1, "b": 1}
    assert rig.told.fallbacks == [("r", "unavailable")]  # and back to the first is no fallback
    assert rig.told.retries == []


async def test_a_breaker_that_is_open_lets_one_doomed_request_through_at_a_time() -> None:
    rig = Rig()
    place = rig.add("a", failed())
    place.open_breaker(rig.clock.now_s)
    probe = place.deployment.breaker.begin(rig.clock.now_s, forced=True)
    assert probe is not None
    with pytest.raises(NoUpstream) as caught:
        await rig.ask()
    assert (caught.value.retry_after_s, caught.value.attempts) == (1.0, None)
    assert rig.asked == {"a": 0}
    rig.clock.now_s += 1.0  # and when that takes long, one a second
    with pytest.raises(UpstreamFailed):
        await rig.ask()
    assert rig.asked == {"a": 1}


async def test_one_that_its_probes_find_ill_is_asked_last() -> None:
    rig = Rig()
    rig.add("a")
    rig.add("b", failed(), ANSWERS)
    rig.places["a"].deployment.standing.probed(well=False, at_once=True)
    assert [await rig.answered_by(), await rig.answered_by()] == ["a", "b"]
    assert rig.asked == {"a": 1, "b": 2}


async def test_one_that_is_ill_and_fails_is_not_asked_again() -> None:
    rig = Rig()
    rig.add("a", unreachable)
    rig.places["a"].deployment.standing.probed(well=False, at_once=True)
    assert (await error_of(rig)).code == "upstream_unreachable"
    assert (rig.asked, rig.clock.slept_s, rig.told.retries) == ({"a": 1}, [], [])


async def test_one_that_had_enough_is_left_alone_as_long_as_it_said() -> None:
    rig = Rig(retry=no_retries())
    rig.add("a", throttled(20.0), ANSWERS)
    rig.add("b")
    assert [await rig.answered_by(), await rig.answered_by()] == ["b", "b"]
    rig.clock.now_s += 20.0
    assert await rig.answered_by() == "a"
    assert rig.asked == {"a": 2, "b": 2}


@pytest.mark.parametrize(("waits_s", "told_s"), [((20.0, 8.0), 8.0), ((20.0, None), 1.0), ((None, None), 1.0)])
async def test_when_all_had_enough_the_client_is_told_the_shortest_wait(
    waits_s: tuple[float | None, ...], told_s: float
) -> None:
    rig = Rig(retry=no_retries())
    for name, wait_s in zip("ab", waits_s, strict=True):
        rig.add(name, throttled(wait_s))
    first, second = await error_of(rig), await error_of(rig)
    for error in (first, second):  # the second request is told without asking
        assert (error.status, error.code, error.retry_after_s) == (429, "upstream_rate_limited", told_s)
        assert error.should_retry is None
    assert (first.attempts, second.attempts) == (2, None)
    assert rig.asked == {"a": 1, "b": 1}


@pytest.mark.parametrize("error", [unauthorized, quota])
async def test_one_that_refuses_our_account_is_parked_and_nobody_asks_it(error: Fails) -> None:
    rig = Rig()
    rig.add("a", error)
    caught = [await error_of(rig) for _ in range(3)]
    assert rig.asked == {"a": 1}
    assert len({type(each) for each in caught}) == 1
    assert len({id(each) for each in caught}) == 3
    assert all(each.should_retry is False and each.status in (502, 503) for each in caught)
    rig.clock.now_s += 301.0
    await error_of(rig)
    assert rig.asked == {"a": 2}


async def test_an_upstream_that_is_parked_keeps_no_request_alive() -> None:
    rig = Rig()
    standing = rig.add("a", unauthorized).deployment.standing
    await error_of(rig)
    assert standing._parked_by is not None
    assert standing._parked_by.__traceback__ is None


async def test_what_a_key_may_not_do_neither_parks_nor_counts() -> None:
    rig = Rig()
    place = rig.add("a", forbidden, forbidden, forbidden, ANSWERS)
    for _ in range(3):
        assert (await error_of(rig)).code == "upstream_auth_error"
    assert await rig.answered_by() == "a"
    assert place.circuits.load("a@a.up").failures == 0.0


async def test_when_nobody_may_be_asked_the_client_is_told_when_a_forced_attempt_may_be_made() -> None:
    rig = Rig()
    rig.add("parked", unauthorized)
    place = rig.add("b", failed())
    await error_of(rig)
    place.open_breaker(rig.clock.now_s)
    assert place.deployment.breaker.begin(rig.clock.now_s, forced=True) is not None
    with pytest.raises(NoUpstream) as caught:
        await rig.ask()
    assert caught.value.retry_after_s == 1.0


async def test_an_option_that_a_substitute_does_not_know_is_not_final_while_a_breaker_is_open() -> None:
    rig = Rig()
    rig.add("a")
    rig.add("b", refused("unsupported_parameter"))
    rig.places["a"].open_breaker(rig.clock.now_s)
    assert await rig.answered_by() == "a"
    assert rig.asked == {"a": 1, "b": 1}


async def test_an_option_that_a_substitute_does_not_know_while_a_forced_attempt_is_under_way_means_to_come_back() -> (
    None
):
    rig = Rig()
    place = rig.add("a")
    rig.add("b", refused("unsupported_parameter"))
    place.open_breaker(rig.clock.now_s)
    assert place.deployment.begin_as_last(rig.clock.now_s) is not None
    with pytest.raises(NoUpstream) as caught:
        await rig.ask()
    assert (caught.value.retry_after_s, caught.value.should_retry, caught.value.attempts) == (1.0, None, 1)


async def test_an_option_that_a_substitute_does_not_know_while_another_cools_means_to_come_back() -> None:
    rig = Rig(retry=no_retries())
    rig.add("a", throttled(20.0), ANSWERS)
    rig.add("b", ANSWERS, refused("unsupported_parameter"))
    assert await rig.answered_by() == "b"
    rig.clock.now_s += 8.0
    error = await error_of(rig)
    assert (error.status, error.code, error.retry_after_s) == (429, "upstream_rate_limited", 12.0)
    assert rig.asked == {"a": 1, "b": 2}
    rig.clock.now_s += 12.0
    assert await rig.answered_by() == "a"


async def test_a_fault_that_a_substitute_finds_stands_while_another_is_parked() -> None:
    rig = Rig()
    rig.add("a", unauthorized)
    rig.add("b", ANSWERS, refused("unsupported_parameter"))
    assert await rig.answered_by() == "b"
    error = await error_of(rig)
    assert (error.status, error.code) == (400, "unsupported_parameter")
    assert rig.asked == {"a": 1, "b": 2}


async def test_a_fault_that_a_substitute_finds_is_the_clients_whoever_is_being_left_alone() -> None:
    rig = Rig()
    rig.add("a")
    rig.add("b", *[refused("invalid_value")] * 60)
    rig.add("c")
    rig.places["a"].open_breaker(rig.clock.now_s)
    for _ in range(60):
        error = await error_of(rig)
        assert (error.status, error.code) == (400, "invalid_value")
    assert rig.asked == {"a": 0, "b": 60, "c": 0}


async def test_a_late_request_gets_the_fault_that_was_found_when_who_is_left_is_parked() -> None:
    rig = Rig(total_s=10.0)
    rig.add("b", Turn(refused("unsupported_parameter"), takes_s=10.0))
    rig.add("a", unauthorized)
    rig.places["a"].deployment.standing.park(UpstreamUnauthorized("no key", upstream="a"), rig.clock.now_s + 1000)
    assert (await error_of(rig)).status == 400


# What the client is told when all failed


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ((failed(500), failed(503)), "upstream_error"),
        ((unauthorized, failed(503)), "upstream_unavailable"),
        ((quota, unreachable), "upstream_unreachable"),
        ((unauthorized, quota), "upstream_quota"),
        ((failed(500), refused("x")), "upstream_error"),
        ((CONTEXT, failed(500)), "upstream_error"),
    ],
)
async def test_the_error_is_the_one_that_tells_most(errors: tuple[Fails, ...], code: str) -> None:
    rig = Rig(retry=no_retries())
    for name, error in zip("ab", errors, strict=True):
        rig.add(name, error)
    caught = await error_of(rig)
    assert (caught.code, caught.attempts) == (code, 2)


async def test_an_error_without_a_time_to_come_back_is_final() -> None:
    rig = Rig(retry=no_retries())
    rig.add("a", failed(500))
    assert (await error_of(rig)).should_retry is False


# One deadline


async def test_each_attempt_gets_what_the_others_left() -> None:
    rig = Rig(total_s=10.0, retry=no_retries())
    for name, takes_s in (("a", 4.0), ("b", 5.0), ("c", 0.0)):
        rig.add(name, Turn(failed(), takes_s=takes_s))
    await error_of(rig)
    assert [place.upstream.asked[0][1] for place in rig.places.values()] == [10.0, 6.0, 1.0]


async def test_when_the_time_is_up_nobody_else_is_asked() -> None:
    rig = Rig(total_s=10.0)
    rig.add("a", Turn(failed(), takes_s=10.0))
    rig.add("b")
    error = await error_of(rig)
    assert isinstance(error, TimedOut)
    assert (error.phase, error.limit_s, error.attempts) == ("total", 10.0, 1)
    assert rig.asked == {"a": 1, "b": 0}


def out_of_time(limit_s: float) -> Fails:
    return lambda upstream: TimedOut(upstream=upstream, phase="total", limit_s=limit_s)


@pytest.mark.parametrize(
    ("before_s", "limit_s", "failures"),
    [
        (0.0, 10.0, 1),  # it had all of the time
        (4.0, 6.0, 1),  # and more than half
        (6.0, 4.0, 0),
        (6.0, 2.0, 1),  # it had less than was left, by its own limit
    ],
)
async def test_what_others_left_of_the_time_is_no_measure_of_a_deployment(
    before_s: float, limit_s: float, failures: int
) -> None:
    rig = Rig(total_s=10.0, retry=no_retries())
    rig.add("a", Turn(failed(), takes_s=before_s))
    place = rig.add("b", Turn(out_of_time(limit_s), takes_s=limit_s))
    await error_of(rig)
    assert rig.told.outcomes[1:] == [("b", "upstream_timeout")]
    assert place.circuits.load("b@b.up").consecutive == failures


async def test_a_bug_in_an_upstream_is_no_verdict_on_it() -> None:
    def bug(upstream: str) -> UpstreamError:
        raise ZeroDivisionError(upstream)

    rig = Rig()
    rig.add("a", bug)
    with pytest.raises(ZeroDivisionError):
        await rig.ask()
    assert rig.is_at_rest()
    assert rig.places["a"].circuits.load("a@a.up").consecutive == 0
