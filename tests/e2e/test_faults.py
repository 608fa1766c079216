"""Every fault of an upstream, streamed and not, seen by a user of OpenAI's client.

Of an answer the client gets all, or one clear error in time; never a part that looks like the whole.
"""

from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from e2e.fault_expectations import (
    ABOUT_THE_REQUEST,
    CUT_OFF,
    GIVES_WAY,
    ONE_ERROR,
    OTHER_ANSWERS,
    SENT_AGAIN,
    UNNOTICED,
    is_beginning,
)
from e2e.fault_gateway import BACKUP_MODEL, KEY, ON_REUSE, ROUTE_TOTAL_S, WAITING, Case, FaultGateway, cases
from e2e.tapped_client import Outcome, TappedClient, tapped_client
from faults.canonical import DONE, event
from faults.catalogue import FAULTS

#: So that slow answers are no slower than a test wants to be.
QUICK: dict[str, Any] = {"x_delay_ms": 5}
CLASSES: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    409: openai.ConflictError,
    413: openai.APIStatusError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}
#: The chain's own deadline, and what a busy machine adds to it.
BOUND_S = ROUTE_TOTAL_S + 1.0
THEN_OK = [case for case in cases("then-ok") if case.fault not in OTHER_ANSWERS]
#: Those that wait for seconds do so no differently alone: one way of asking them is enough.
SLOW = {"429-retry-after-date-whole", "429-retry-after-skewed-date-whole"}
ALONE = [case for case in cases("alone") if case.fault not in OTHER_ANSWERS and f"{case.fault}-{case.use}" not in SLOW]
#: Cases of ``WAITING`` are asked beforehand, so many at a time.
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """One call as its user sees it, and what both upstreams saw of it."""

    outcome: Outcome
    at_primary: list[dict[str, Any]]
    at_backup: list[dict[str, Any]]


class Beforehand:
    """What became of the cases of ``WAITING``."""

    def __init__(self, gateway: FaultGateway) -> None:
        self._cases = [case for case in (*THEN_OK, *ALONE) if case.fault in WAITING]
        gateway.forget()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            self._outcomes = [pool.submit(self._outcome, gateway, number) for number in range(len(self._cases))]
        gateway.wait_idle()
        self._ledgers = gateway.primary.attempts(), gateway.backup.attempts()

    def __contains__(self, case: Case) -> bool:
        return case in self._cases

    def of(self, case: Case) -> Asked:
        """Raises what its call raised."""
        number = self._cases.index(case)
        outcome: Future[Outcome] = self._outcomes[number]
        seen = ([one for one in ledger if one["body"]["x_number"] == number] for ledger in self._ledgers)
        return Asked(outcome.result(), *seen)

    def _outcome(self, gateway: FaultGateway, number: int) -> Outcome:
        case = self._cases[number]
        with tapped_client(gateway.base_url) as client:
            return client.ask(case.route, stream=case.use == "stream", x_number=number, **QUICK)


@pytest.fixture(scope="module")
def client(fault_gateway: FaultGateway) -> Generator[TappedClient, None, None]:
    with tapped_client(fault_gateway.base_url) as client:
        yield client


@pytest.fixture(scope="module")
def beforehand(fault_gateway: FaultGateway) -> Beforehand:
    return Beforehand(fault_gateway)


def ask(client: TappedClient, faulty: FaultGateway, beforehand: Beforehand, case: Case) -> Asked:
    asked = beforehand.of(case) if case in beforehand else _ask_now(client, faulty, case)
    assert KEY not in str(asked.outcome.headers.raw)
    assert KEY.encode() not in asked.outcome.wire
    return asked


def _ask_now(client: TappedClient, faulty: FaultGateway, case: Case) -> Asked:
    if case.fault in ON_REUSE:
        assert client.ask(case.route, stream=case.use == "stream").whole  # leaves a connection to be used again
        faulty.forget()
    outcome = client.ask(case.route, stream=case.use == "stream", **QUICK)
    return Asked(outcome, faulty.attempts(case), faulty.backup.attempts())


def assert_healthy(client: TappedClient, case: Case) -> None:
    """The upstream that had the fault answers the next call, over the connections that the fault has left."""
    healthy = Case("ok", case.use, "alone")
    outcome = client.ask(healthy.route, stream=healthy.use == "stream")
    assert outcome.whole
    assert outcome.attempts == 1


def assert_attempts(asked: Asked, case: Case, at_most: int) -> None:
    again = at_most if case.fault in SENT_AGAIN else 0
    assert 1 <= len(asked.at_primary) <= at_most + again


def assert_cut_off(outcome: Outcome, code: str) -> None:
    """One error event after a beginning of the answer, told apart from its end by everybody."""
    assert type(outcome.error) is openai.APIError  # not of a status: that was sent long before
    assert outcome.code == code
    assert outcome.text
    assert is_beginning(outcome.text)
    assert outcome.finish_reason in (None, "stop")
    assert outcome.wire.count(b'data: {"error":') == 1
    assert outcome.wire.endswith(event(DONE))


def test_every_fault_has_its_expectation() -> None:
    expected = {*ONE_ERROR, *CUT_OFF, *GIVES_WAY, *UNNOTICED, *OTHER_ANSWERS}
    assert expected == set(FAULTS)


@pytest.mark.parametrize("case", THEN_OK, ids=lambda case: f"{case.fault}-{case.use}")
def test_a_chain_with_a_healthy_target_answers_whole_or_says_where_it_ends(
    faulty: FaultGateway, client: TappedClient, beforehand: Beforehand, case: Case
) -> None:
    asked = ask(client, faulty, beforehand, case)
    outcome = asked.outcome
    assert outcome.seconds < BOUND_S

    at_most = 1
    if case.fault in ABOUT_THE_REQUEST:
        assert (outcome.status, outcome.code) == ABOUT_THE_REQUEST[case.fault]
        assert asked.at_backup == []
    elif case.fault in CUT_OFF and case.use == "stream" and outcome.text != "" and not outcome.whole:
        assert_cut_off(outcome, CUT_OFF[case.fault])
        assert asked.at_backup == []  # which is another model
        at_most = 2  # the same one is asked for the rest, and says no more than before
    else:
        # A fault that came with the first token, or before it, never reaches the client.
        unnoticed = case.fault in UNNOTICED
        assert outcome.whole
        assert outcome.attempts == (1 if unnoticed else 2)
        assert outcome.headers["x-genkan-upstream"] == (case.upstream if unnoticed else "backup")
        assert outcome.headers["x-genkan-model"] == (case.model if unnoticed else BACKUP_MODEL)
        assert ("x-genkan-fallback" in outcome.headers) is not unnoticed
        assert outcome.model == (case.name_there if unnoticed else "ok")
        assert len(asked.at_backup) == (0 if unnoticed else 1)
    assert_attempts(asked, case, at_most)
    assert_healthy(client, case)


@pytest.mark.parametrize("case", ALONE, ids=lambda case: f"{case.fault}-{case.use}")
def test_a_fault_without_another_target_is_one_clear_error(
    faulty: FaultGateway, client: TappedClient, beforehand: Beforehand, case: Case
) -> None:
    asked = ask(client, faulty, beforehand, case)
    outcome = asked.outcome
    assert outcome.seconds < BOUND_S

    if case.fault in UNNOTICED:
        assert outcome.whole
        assert outcome.attempts == 1
    elif case.fault in GIVES_WAY:
        assert outcome.whole
        assert outcome.attempts == 2
    elif case.fault in CUT_OFF and case.use == "stream" and outcome.text != "":
        assert_cut_off(outcome, CUT_OFF[case.fault])
    else:
        assert_clear_error(outcome, *ONE_ERROR[case.fault])
    # After two failures in a row the breaker of one who asks alone is open.
    assert_attempts(asked, case, 2)
    assert faulty.primary.canary_hits() == []
    assert_healthy(client, case)


def assert_clear_error(outcome: Outcome, status: int, code: str | None) -> None:
    assert (outcome.status, outcome.code) == (status, code)
    assert type(outcome.error) is CLASSES.get(status, openai.InternalServerError)
    assert outcome.text == ""
    if status in (429, 503):
        assert 1 <= int(outcome.headers["retry-after"]) <= 60
    if "retry-after" not in outcome.headers and status >= 500:
        assert outcome.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("fault", OTHER_ANSWERS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_answer_without_text_is_an_answer(
    faulty: FaultGateway, client: TappedClient, fault: str, stream: bool
) -> None:
    outcome = client.ask(Case(fault, "stream" if stream else "whole", "then-ok").route, stream=stream)
    assert outcome.error is None
    assert (outcome.text, outcome.finish_reason) == ("", OTHER_ANSWERS[fault])
    assert outcome.attempts == 1


@pytest.mark.parametrize(
    "fault", ["500-for-ever", "reset-before-headers", "html-200", "unauthorized", "role-then-silence", "not-found"]
)
def test_a_client_that_retries_by_itself_is_told_not_to(faulty: FaultGateway, fault: str) -> None:
    case = Case(fault, "stream", "alone")
    with tapped_client(faulty.base_url, max_retries=2) as patient:
        outcome = patient.ask(case.route, stream=True)
    assert isinstance(outcome.error, openai.InternalServerError)
    again = 2 if fault in SENT_AGAIN else 1
    assert len(faulty.attempts(case)) <= 2 * again


def test_a_client_that_retries_by_itself_gets_its_answer_once_there_is_one(faulty: FaultGateway) -> None:
    case = Case("503-once-retry-after", "mix", "alone")
    with tapped_client(faulty.base_url, max_retries=2) as patient:
        outcome = patient.ask(case.route, stream=True)
    assert outcome.whole
    assert len(faulty.attempts(case)) == 2
