"""``RateLimiter``, in memory and on a real Redis."""

import doctest
import math
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hand_clock import HandClock
from redis_servers import RunningRedis, running_redis

from genkan import RateLimiter, rate_limiter
from genkan.errors import StoreError, StoreLost, StoreTimeout
from genkan.rate_limiter import Algorithm

ALGORITHMS: tuple[Algorithm, ...] = ("token_bucket", "sliding_window")


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    chosen: Algorithm = request.param
    return chosen


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningRedis, None, None]:
    with running_redis("embedded", tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Callable[..., RateLimiter], None, None]:
    """Makes limiters in memory, or on Redis under a prefix of the test's own. For what needs no clock."""
    made: list[RateLimiter] = []
    url = request.getfixturevalue("redis").url if request.param == "redis" else None

    def one(*args: object, **options: object) -> RateLimiter:
        limiter = RateLimiter(*args, redis_url=url, prefix=f"test:{tmp_path}", **options)  # type: ignore[arg-type]  # passed on
        made.append(limiter)
        return limiter

    yield one
    for limiter in made:
        limiter.close()


def raced(limiter: RateLimiter, threads: int) -> int:
    """How many of so many threads were allowed, all of which asked at the same time."""
    start, allowed = threading.Barrier(threads), list[bool]()

    def ask() -> None:
        start.wait(timeout=30)
        allowed.append(limiter.allow("client"))

    asking = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(timeout=60)
    assert len(allowed) == threads
    return sum(allowed)


def test_its_docstring_is_true() -> None:
    assert doctest.testmod(rate_limiter).failed == 0


# In memory and on Redis


def test_it_allows_its_limit_to_each_client(make: Callable[..., RateLimiter], algorithm: Algorithm) -> None:
    limiter = make(3, 3600.0, algorithm=algorithm)
    assert [limiter.allow("a") for _ in range(4)] == [True, True, True, False]
    assert limiter.allow("b", 2)
    assert not limiter.allow("b", 2)
    assert (limiter.remaining("a"), limiter.remaining("b"), limiter.remaining("c")) == (0, 1, 3)
    assert limiter.allow()
    assert limiter.remaining() == 2


def test_of_200_threads_exactly_50_are_allowed(make: Callable[..., RateLimiter], algorithm: Algorithm) -> None:
    limiter = make(50, 86400.0, algorithm=algorithm)
    assert raced(limiter, 200) == 50
    assert (limiter.stats.accepted, limiter.stats.rejected) == (50, 150)
    assert limiter.stats.rejection_rate == 0.75


def test_it_says_when_to_come_back(make: Callable[..., RateLimiter], algorithm: Algorithm) -> None:
    limiter = make(4, 3600.0, algorithm=algorithm)
    assert limiter.retry_after_s("a", 4) == 0.0
    assert limiter.reset("a") == 0.0
    assert limiter.allow("a", 3)
    assert limiter.retry_after_s("a") == 0.0
    token_s, slack_s = 900.0, 60.0
    expected_s = (token_s, 3 * token_s) if algorithm == "token_bucket" else (3600.0, 3600.0)
    waits_s = limiter.retry_after_s("a", 2), limiter.reset("a")
    for wait_s, most_s in zip(waits_s, expected_s, strict=True):
        assert most_s - slack_s < wait_s <= most_s


def test_what_is_more_than_can_ever_be_there_is_never_allowed(
    make: Callable[..., RateLimiter], algorithm: Algorithm
) -> None:
    limiter = make(3, 60.0, algorithm=algorithm)
    assert limiter.retry_after_s("a", 4) == math.inf
    assert not limiter.allow("a", 4)
    assert limiter.remaining("a") == 3


def test_asking_how_things_stand_takes_nothing(make: Callable[..., RateLimiter], algorithm: Algorithm) -> None:
    limiter = make(1, 60.0, algorithm=algorithm)
    for _ in range(3):
        assert (limiter.remaining("a"), limiter.retry_after_s("a"), limiter.reset("a")) == (1, 0.0, 0.0)
    assert limiter.allow("a")


def test_a_client_that_is_forgotten_gets_all_back(make: Callable[..., RateLimiter], algorithm: Algorithm) -> None:
    limiter = make(2, 3600.0, algorithm=algorithm)
    assert limiter.allow("a", 2)
    limiter.forget("a")
    limiter.forget("never seen")
    assert (limiter.remaining("a"), limiter.reset("a")) == (2, 0.0)


@pytest.mark.parametrize("client_id", ["", "a b\r\n", "\0", "é한", "\ud800", "x" * 65536])
def test_a_client_id_is_any_text(make: Callable[..., RateLimiter], client_id: str) -> None:
    limiter = make(1, 3600.0)
    assert limiter.allow(client_id)
    assert not limiter.allow(client_id)
    assert limiter.allow(client_id + "'")


# In memory


def test_a_bucket_refills_evenly_up_to_its_burst(clock: HandClock) -> None:
    limiter = RateLimiter(60, 60.0, burst=5, clock=clock)
    assert sum(limiter.allow() for _ in range(20)) == 5
    clock.advance(2.5)
    assert limiter.remaining() == 2
    assert limiter.retry_after_s(cost=3) == 0.5
    clock.advance(1000.0)
    assert limiter.remaining() == 5


def test_a_window_lets_no_more_through_around_a_boundary(clock: HandClock) -> None:
    limiter = RateLimiter(50, 60.0, algorithm="sliding_window", clock=clock)
    clock.advance(59.0)
    assert sum(limiter.allow() for _ in range(200)) == 50
    clock.advance(2.0)
    assert sum(limiter.allow() for _ in range(200)) == 0
    clock.advance(58.0)
    assert sum(limiter.allow() for _ in range(200)) == 50


def test_these_are_its_defaults(clock: HandClock) -> None:
    limiter = RateLimiter(clock=clock)
    assert sum(limiter.allow() for _ in range(101)) == 100
    assert limiter.reset() == 60.0
    clock.advance(300.0)
    assert limiter.prune_idle() == 0
    clock.advance(0.001)
    assert limiter.prune_idle() == 1


def test_clients_that_stay_away_are_dropped(clock: HandClock, algorithm: Algorithm) -> None:
    limiter = RateLimiter(10, 60.0, algorithm=algorithm, idle_s=300.0, clock=clock)
    for n in range(10):
        limiter.allow(f"{n}")
    clock.advance(200.0)
    limiter.allow("0")
    clock.advance(101.0)
    assert limiter.stats.clients == 10
    assert limiter.prune_idle() == 9
    assert limiter.stats.clients == 1
    assert limiter.prune_idle() == 0


def test_clients_that_stay_away_are_dropped_on_the_way_too(clock: HandClock, algorithm: Algorithm) -> None:
    limiter = RateLimiter(10, 1.0, algorithm=algorithm, idle_s=10.0, clock=clock)
    most = 0
    for n in range(5000):
        limiter.allow(f"{n}")
        clock.advance(0.1)
        most = max(most, limiter.stats.clients or 0)
    assert most <= 102  # one new every 0.1 s, each remembered for 10 s


def test_being_dropped_gives_nobody_more(clock: HandClock) -> None:
    limiter = RateLimiter(24, 86400.0, burst=48, idle_s=1.0, clock=clock)
    assert limiter.allow("a", 48)
    clock.advance(3600.0)
    assert limiter.prune_idle() == 0
    assert limiter.remaining("a") == 1
    clock.advance(2 * 86400.0)
    assert limiter.prune_idle() == 1


def test_who_is_rejected_before_taking_anything_is_not_remembered(clock: HandClock) -> None:
    limiter = RateLimiter(3, clock=clock)
    assert not limiter.allow("a", 4)
    assert limiter.stats.clients == 0


def test_nothing_was_rejected_before_the_first_call() -> None:
    assert RateLimiter().stats.rejection_rate == 0.0


# Wrong arguments


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"limit": 0}, "limit must be a whole number from 1 to"),
        ({"limit": 2.5}, "limit must be a whole number from 1 to"),
        ({"limit": True}, "limit must be a whole number from 1 to"),
        ({"limit": 10**13}, "limit must be a whole number from 1 to"),
        ({"burst": 0}, "burst must be a whole number from 1 to"),
        ({"window_s": 0.0}, r"window_s must be from 0\.001 to"),
        ({"window_s": math.nan}, r"window_s must be from 0\.001 to"),
        ({"window_s": math.inf}, r"window_s must be from 0\.001 to"),
        ({"idle_s": -1.0}, r"idle_s must be from 0\.001 to"),
        ({"algorithm": "leaky"}, "algorithm must be 'token_bucket' or 'sliding_window', not 'leaky'"),
        ({"algorithm": "sliding_window", "burst": 5}, "a sliding window has no burst"),
        ({"redis_url": "http://localhost"}, "redis://"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        RateLimiter(**options)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("cost", [0, -1, 1.5, True])
def test_a_cost_is_a_whole_number(cost: int) -> None:
    limiter = RateLimiter()
    for ask in (limiter.allow, limiter.retry_after_s):
        with pytest.raises(ValueError, match="cost must be a whole number from 1 to"):
            ask("a", cost)
    assert limiter.stats.accepted == limiter.stats.rejected == 0


# On Redis


def test_limiters_with_the_same_prefix_share_a_limit(redis: RunningRedis, algorithm: Algorithm) -> None:
    first, second, other = (
        RateLimiter(5, 3600.0, algorithm=algorithm, redis_url=redis.url, prefix=f"{prefix}:{algorithm}")
        for prefix in ("shared", "shared", "other")
    )
    assert [limiter.allow("a") for limiter in (first, second) * 3] == [True] * 5 + [False]
    assert other.remaining("a") == 5
    assert first.stats.clients is None
    assert first.prune_idle() == 0
    for limiter in (first, second, other):
        limiter.close()


def test_redis_is_not_told_who_the_clients_are(redis: RunningRedis) -> None:
    from redis import Redis

    limiter = RateLimiter(redis_url=redis.url, prefix="hidden")
    limiter.allow("alice@example.org")
    with Redis(unix_socket_path=str(redis.socket)) as client:
        (key,) = client.keys("hidden:*")
        assert b"alice" not in key
        assert 0 < client.pttl(key) <= 2200  # what it took of the default limit is back in 600; twice that, and 1 s
    limiter.close()


def test_a_redis_that_forgot_the_scripts_is_told_them_again(redis: RunningRedis) -> None:
    from redis import Redis

    limiter = RateLimiter(2, 3600.0, redis_url=redis.url, prefix="forgotten")
    with Redis(unix_socket_path=str(redis.socket)) as client:
        client.script_flush()
        assert limiter.allow()
        client.script_flush()
        assert limiter.remaining() == 1
    limiter.close()


def test_a_redis_that_fails_is_an_error_and_counts_as_nothing(tmp_path: Path) -> None:
    with running_redis("embedded", tmp_path) as server:
        limiter = RateLimiter(redis_url=server.url)
        assert limiter.allow()
        server.pause()
        with pytest.raises(StoreTimeout):
            limiter.allow()
        server.resume()
        server.kill()
        for ask in (limiter.allow, limiter.remaining, limiter.forget):
            with pytest.raises(StoreLost):
                ask()
        assert (limiter.stats.accepted, limiter.stats.rejected) == (1, 0)
        limiter.close()


def test_what_redis_refuses_is_an_error(redis: RunningRedis) -> None:
    from redis import Redis

    limiter = RateLimiter(redis_url=redis.url, prefix="refused")
    limiter.allow()
    with Redis(unix_socket_path=str(redis.socket)) as client:
        (key,) = client.keys("refused:*")
        client.delete(key)
        client.hset(key, "a", "b")  # not what a bucket keeps
    with pytest.raises(StoreError, match="WRONGTYPE"):
        limiter.allow()
    limiter.close()
