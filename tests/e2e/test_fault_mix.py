"""A thousand requests into faults of all kinds: each ends, with the whole answer or with an error."""

import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import local

from e2e.fault_expectations import OTHER_ANSWERS, is_beginning
from e2e.fault_gateway import FAILING, SECLUDED, FaultGateway, Metrics, mixed_cases
from e2e.live_server import wait_until
from e2e.tapped_client import Outcome, TappedClient

REQUESTS = 1000
AT_ONCE = 16
#: Slow by nature, and enough of them would make this a test of patience.
SELDOM = ("headers-then-silence", "never-answers", "stalled-after-40", "endless-event", "gzip-bomb", "slow-drip")
#: Whose answers are not canonical by intent, or have no end that a client with a deadline could wait for.
LEFT_OUT = {*OTHER_ANSWERS, "endless-tokens"}

Question = tuple[str, bool]


def ask_all(gateway: FaultGateway, questions: Sequence[Question]) -> list[Outcome]:
    """Each (route, streamed), so many at a time; ``x_number`` in the body tells them apart in the ledgers."""
    threads = local()
    clients: list[TappedClient] = []

    def client() -> TappedClient:
        if not hasattr(threads, "client"):
            threads.client = TappedClient(gateway.base_url)
            clients.append(threads.client)
        found: TappedClient = threads.client
        return found

    def ask(number: int) -> Outcome:
        route, stream = questions[number]
        return client().ask(route, stream=stream, x_number=number, x_delay_ms=2)

    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(ask, range(len(questions))))
    finally:
        for one in clients:
            one.close()


def assert_at_rest(gateway: FaultGateway) -> None:
    """Nothing is in flight, and the next call is as if nothing had been."""
    gateway.wait_idle()
    assert ask_all(gateway, [("ok.stream.alone", True), ("ok.whole.alone", False)])[0].whole
    gateway.server.assert_clean_log()


def test_of_a_thousand_requests_into_random_faults_none_is_cut_and_called_whole(faulty: FaultGateway) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    dice = random.Random(seed)
    cases = [case for case in mixed_cases() if case.fault not in LEFT_OUT]
    weights = [0.1 if case.fault in SELDOM else 1.0 for case in cases]
    questions = [(case.route, dice.random() < 0.5) for case in dice.choices(cases, weights, k=REQUESTS)]

    outcomes = ask_all(faulty, questions)

    cut = [question for question, outcome in zip(questions, outcomes, strict=True) if not is_honest(outcome)]
    assert cut == []
    assert len(outcomes) == REQUESTS
    # Were most of them errors, this would show little.
    assert sum(outcome.whole for outcome in outcomes) > REQUESTS / 2
    assert_at_rest(faulty)
    # What is still open is idle: one connection for each of those who asked, and for each that was parked.
    idle = AT_ONCE + 2 * len(SECLUDED)
    wait_until(lambda: faulty.primary.connections()["open"] <= idle, 3, "broken connections are closed")


def is_honest(outcome: Outcome) -> bool:
    """Whether it is the whole answer, or says that it is not."""
    return outcome.whole or (outcome.error is not None and is_beginning(outcome.text))


def test_when_all_upstreams_fail_retries_stay_within_a_fifth_of_the_requests(faulty: FaultGateway) -> None:
    # These deployments have breakers that never open: the budget alone has to do it.
    questions = [(f"{FAILING[number % 3]}.all-stubborn", number % 2 == 0) for number in range(REQUESTS)]
    before = faulty.metrics()

    outcomes = ask_all(faulty, questions)

    assert all(outcome.error is not None and outcome.text == "" for outcome in outcomes)
    assert {outcome.code for outcome in outcomes} == {
        "upstream_error",
        "upstream_unavailable",
        "upstream_invalid_response",
    }
    retries = same_target_retries(faulty)
    assert retries == sum(
        counted_retries(faulty.metrics(), fault) - counted_retries(before, fault) for fault in FAILING
    )
    assert 0 < retries <= REQUESTS / 5
    assert_at_rest(faulty)


def counted_retries(metrics: Metrics, fault: str) -> float:
    places = (f"{fault}.stubborn-primary", f"{fault}.stubborn-backup")
    return sum(metrics.value("retries_total", deployment=f"{place}@{place}") for place in places)


def same_target_retries(gateway: FaultGateway) -> int:
    """What the upstreams saw of requests beyond the first attempt of each."""
    asked: Counter[tuple[str, int]] = Counter()
    for upstream in ("primary", "backup"):
        ledger = getattr(gateway, upstream).attempts()
        asked.update((upstream, attempt["body"]["x_number"]) for attempt in ledger)
    return sum(times - 1 for times in asked.values())


def test_when_all_upstreams_fail_open_breakers_keep_requests_from_them(faulty: FaultGateway) -> None:
    number = 200
    outcomes = ask_all(faulty, [(f"{FAILING[place % 3]}.all", place % 2 == 0) for place in range(number)])
    assert all(outcome.error is not None for outcome in outcomes)
    assert "no_healthy_upstream" in {outcome.code for outcome in outcomes}
    assert same_target_retries(faulty) <= number / 5
    assert_at_rest(faulty)
