"""Who is told of a request's attempts, for the ledger."""

import math
from typing import Protocol

from genkan.errors import UpstreamError
from genkan.gateway.deployment import Deployment
from genkan.gateway.reservations import Reservation, TimeLeft
from genkan.store.accounts import Amounts, Plan
from genkan.upstream.base import NO_CALL, Answer, Call


class Recorder(Protocol):
    """Keeps the record of one request. Called while it waits, so quick."""

    request_id: str
    tenant: str
    redis_left: TimeLeft  # what the request may still wait for Redis

    def amounts_within(self, plan: Plan) -> Amounts:
        """What an attempt may take of ``plan``, as far as that can be told."""

    def attempt_begun(self, deployment: Deployment, attempt: int, room: Reservation | None) -> Call:
        """The ``attempt``-th is about to be sent; what its upstream is told of it.

        ``room`` is what it holds of the deployment's limits, to be given back when it has ended.
        """

    def first_token(self, attempt: int) -> None:
        """The first piece of the ``attempt``-th's stream is there, and the client gets it."""

    def goes_on(self, attempt: int, way: str) -> None:
        """The answer that another attempt began goes on with the ``attempt``-th, in that way."""

    def attempt_ended(
        self,
        attempt: int,
        state: str,
        seconds: float,
        answer: Answer | None,
        error: UpstreamError | None,
        *,
        may_go_on: bool = False,
    ) -> None:
        """It ended, once: with ``answer`` as far as that has come, or without any.

        ``may_go_on``: another attempt may go on with the answer; then `answer_ended` is called when all is over.
        """

    def answer_ended(self, state: str) -> None:
        """An answer that other attempts may have gone on with has ended, once. ``answer`` says what it was in all."""

    def priced(self, attempt: int, payloads: list[bytes], answer: Answer) -> list[bytes]:
        """``payloads``, in which ``usage`` also says what the answer cost so far."""


class Unrecorded:
    """Where no ledger is kept, nor any limit."""

    request_id = ""
    tenant = ""
    redis_left = TimeLeft(math.inf)

    def amounts_within(self, plan: Plan) -> Amounts:
        return Amounts()

    def attempt_begun(self, deployment: Deployment, attempt: int, room: Reservation | None) -> Call:
        return NO_CALL

    def first_token(self, attempt: int) -> None:
        pass

    def goes_on(self, attempt: int, way: str) -> None:
        pass

    def attempt_ended(
        self,
        attempt: int,
        state: str,
        seconds: float,
        answer: Answer | None,
        error: UpstreamError | None,
        *,
        may_go_on: bool = False,
    ) -> None:
        pass

    def answer_ended(self, state: str) -> None:
        pass

    def priced(self, attempt: int, payloads: list[bytes], answer: Answer) -> list[bytes]:
        return payloads


UNRECORDED = Unrecorded()
