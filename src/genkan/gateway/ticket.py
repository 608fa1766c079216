"""One admitted request, from admission to its row of the ledger.

**What its client is billed**: the tokens of the attempt that answered, as its upstream counted them. If it did not,
because the stream broke off or the client left, what was delivered counts: one token for each piece of the stream that
said something, which is what servers with OpenAI's API send, or for every four bytes of text where that is more, but no
more than the request allowed, and the estimated prompt; the row then says ``estimated``. Who leaves before
the first word is billed the estimated prompt, which has been read by then. If no answer came for another reason nothing
is billed. Attempts that did not answer are never the client's to pay; what their upstreams may take for them stands on
their own rows: nothing where they refused, and null, not known, where the connection broke or took too long.
"""

import asyncio
import re
from typing import Any, NamedTuple, Protocol

import orjson

from genkan.clock import Clock
from genkan.errors import ConnectFailed, GenkanError, RequestError, TimedOut, UpstreamBroken, UpstreamError
from genkan.gateway.chain import Chain
from genkan.gateway.deployment import Deployment
from genkan.gateway.estimate import Estimator, Size, answers_to
from genkan.gateway.ledger import Ledger
from genkan.gateway.policies import fitted
from genkan.gateway.reservations import Reservation, Reservations, TimeLeft
from genkan.store.accounts import Amounts, Plan, Settlement
from genkan.upstream.base import Answer, Call
from genkan.wire.answers import text_bytes_of
from genkan.wire.caller import Caller
from genkan.wire.chat import GenerationRequest
from genkan.wire.usage import Usage

Header = tuple[bytes, bytes]
_HAS_USAGE = re.compile(rb'"usage"\s*:\s*\{').search  # in many streams every chunk has one that is null
_BYTES_PER_TOKEN = 4  # of the text of an answer that came without usage


class TicketObserver(Protocol):
    """Is told what requests took."""

    def billed(self, deployment: str, usage: Usage, cost_nano_usd: int | None, saved_nano_usd: int) -> None:
        """An attempt answered a client."""


class Ticket:
    """Records the attempts of one request, and settles it once. A Recorder."""

    __slots__ = (
        "_answer",
        "_answering",
        "_attempts",
        "_caller",
        "_chain",
        "_clock",
        "_deployments",
        "_estimator",
        "_ledger",
        "_observer",
        "_prompt_tokens",
        "_raw_usage",
        "_request",
        "_reservation",
        "_reservations",
        "_rooms",
        "_size",
        "_state",
        "_usage",
        "_usages",
        "headers",
        "max_tokens",
        "redis_left",
    )

    def __init__(
        self,
        *,
        request: GenerationRequest,
        caller: Caller,
        chain: Chain,
        reservation: Reservation,
        redis_left: TimeLeft,
        reservations: Reservations,
        ledger: Ledger,
        estimator: Estimator,
        size: Size,
        prompt_tokens: int,
        headers: list[Header],
        max_tokens: int | None,
        observer: TicketObserver,
        clock: Clock,
    ) -> None:
        """``headers`` tell the client of its limits. ``max_tokens`` is set where a budget bounds the answer.

        ``redis_left`` is what the request may still wait for Redis.
        """
        self.headers = headers
        self.max_tokens = max_tokens
        self.redis_left = redis_left
        self._request = request
        self._caller = caller
        self._chain = chain
        self._reservation = reservation
        self._reservations = reservations
        self._ledger = ledger
        self._estimator = estimator
        self._size = size
        self._prompt_tokens = prompt_tokens
        self._observer = observer
        self._clock = clock
        self._deployments: list[Deployment] = []
        self._attempts: list[dict[str, Any]] = []  # as rows have them
        self._usages: list[Usage | None] = []
        self._rooms: list[Reservation | None] = []
        self._raw_usage: dict[str, Any] | None = None  # as it was read last, and what it says
        self._usage: Usage | None = None
        self._answering: int | None = None  # the attempt that answers, once that is known
        self._answer: Answer | None = None
        self._state: str | None = None  # once settled

    # Recorder

    @property
    def request_id(self) -> str:
        return self._caller.request_id

    def amounts_within(self, plan: Plan) -> Amounts:
        return Amounts(1, fitted(self._reservation.admission.amounts.tokens, self._prompt_tokens, plan))

    def attempt_begun(self, deployment: Deployment, attempt: int, room: Reservation | None) -> Call:
        self._deployments.append(deployment)
        self._usages.append(None)
        self._rooms.append(room)
        self._attempts.append({"n": attempt, "deployment": deployment.name})
        if self._reservation.admission.draft:
            self._ledger.attempt_begun(self._caller.request_id, attempt, deployment.name)
        return Call(f"{self._caller.request_id}.{attempt}", self._caller.tenant, self._bound_at(deployment))

    def attempt_ended(
        self, attempt: int, state: str, seconds: float, answer: Answer | None, error: UpstreamError | None
    ) -> None:
        usage, estimated = self._usage_of(attempt, answer)
        cost = self._cost_of(attempt, usage, error)
        self._usages[attempt - 1] = usage
        self._attempts[attempt - 1] |= {
            "state": state,
            "usage": usage,
            "estimated": estimated,
            "cost_nano_usd": cost,
            "seconds": round(seconds, 6),
        }
        self._leave(attempt, usage, state)
        if attempt == self._answering:
            self._settle(state)

    def priced(self, attempt: int, payloads: list[bytes], answer: Answer) -> list[bytes]:
        if not self._request.include_usage:
            return payloads
        cost = self._cost_of(attempt, self._read(answer), None)
        return [_with_cost(payload, cost) if _HAS_USAGE(payload) else payload for payload in payloads]

    # the end

    def answered(self, answer: Answer, attempt: int) -> None:
        """The ``attempt``-th is the one whose answer the client gets."""
        self._answering, self._answer = attempt, answer
        if "state" in self._attempts[attempt - 1]:
            self._settle(str(self._attempts[attempt - 1]["state"]))

    def failed(self, error: BaseException) -> None:
        """No answer came of it. Does nothing once it is settled."""
        if isinstance(error, RequestError):
            error.headers = (*error.headers, *self.headers)
            self._settle(error.outcome)
        else:
            self._settle("internal_error" if isinstance(error, Exception) else "client_gone")

    @property
    def cost_nano_usd(self) -> int | None:
        """What its client is billed, as far as is known yet."""
        return None if self._answering is None else self._attempts[self._answering - 1].get("cost_nano_usd")

    def _read(self, answer: Answer) -> Usage | None:
        if answer.usage is not self._raw_usage:
            self._raw_usage, self._usage = answer.usage, Usage.read(answer.usage)
        return self._usage

    def _bound_at(self, deployment: Deployment) -> int | None:
        """What we set; a chain's other models may allow longer answers than this one can give."""
        return None if self.max_tokens is None else min(self.max_tokens, deployment.max_output_tokens)

    def _usage_of(self, attempt: int, answer: Answer | None) -> tuple[Usage | None, bool]:
        if answer is None:
            return None, False
        if (usage := self._read(answer)) is not None:
            return usage, False
        if answer.body is not None:
            tokens = max(1, text_bytes_of(answer.body) // _BYTES_PER_TOKEN)
        elif answer.pieces:
            tokens = max(answer.pieces, answer.text_bytes // _BYTES_PER_TOKEN)
        else:
            return None, False
        most = self._request.sampling.max_tokens or self._bound_at(self._deployments[attempt - 1])
        if most is not None:
            tokens = min(tokens, answers_to(self._request) * most)
        return Usage(self._prompt_tokens, tokens), True

    def _cost_of(self, attempt: int, usage: Usage | None, error: UpstreamError | None) -> int | None:
        price = self._deployments[attempt - 1].price
        if usage is not None:
            return None if price is None else price.nano_usd(usage)
        is_unknown = error is None or (isinstance(error, TimedOut | UpstreamBroken) and not _never_sent(error))
        return None if is_unknown else 0

    def _leave(self, attempt: int, usage: Usage | None, state: str) -> None:
        room, self._rooms[attempt - 1] = self._rooms[attempt - 1], None
        meter = self._deployments[attempt - 1].meter
        if room is not None and meter is not None:
            meter.leave(room, Amounts(1, self._rated(usage, state)))

    def _settle(self, state: str) -> None:
        if self._state is not None:
            return
        self._state = state
        for attempt, begun in enumerate(self._attempts, 1):
            if "state" not in begun:  # nobody tells of it any more
                self._leave(attempt, None, state)
                begun |= {"state": state, "usage": None, "estimated": False, "cost_nano_usd": None, "seconds": 0.0}
        bill = self._bill_for(state)
        if self._answer is not None:
            self._answer.cost_nano_usd = bill.cost_nano_usd
        # In the journal before the client has the end of its answer; what is only counted comes after it.
        self._write(state, bill)
        if bill.usage is not None:
            asyncio.get_running_loop().call_soon(self._count, bill, bill.usage)

    def _bill_for(self, state: str) -> "_Bill":
        attempt = self._answering
        if attempt is not None and (usage := self._usages[attempt - 1]) is not None:
            deployment = self._deployments[attempt - 1]
            saved = deployment.price.saved_nano_usd(usage) if deployment.price is not None else 0
            is_estimated = bool(self._attempts[attempt - 1]["estimated"])
            return _Bill(deployment, usage, is_estimated, self._attempts[attempt - 1]["cost_nano_usd"], saved)
        if state == "client_gone" and self._deployments:
            usage = Usage(self._prompt_tokens, 0)
            return _Bill(self._deployments[-1], usage, True, self._cost_of(len(self._deployments), usage, None), 0)
        return _Bill(None, None, False, 0, 0)

    def _write(self, state: str, bill: "_Bill") -> None:
        """Into the journal and the ledger."""
        reserved, plan = self._reservation.admission.amounts, self._reservation.admission.plan
        tokens = bill.usage.total if bill.usage is not None else 0
        actual = Amounts(reserved.requests, tokens, tokens, bill.cost_nano_usd or 0)
        row = self._row(state, bill) if self._reservation.admission.draft else b""
        if row or plan:
            self._reservations.settle(
                self._reservation,
                Settlement(self._caller.request_id, plan, reserved, actual, row, self._reservation.was_admitted),
            )

    def _count(self, bill: "_Bill", usage: Usage) -> None:
        assert bill.deployment is not None  # whoever used something used it there
        self._observer.billed(bill.deployment.name, usage, bill.cost_nano_usd, bill.saved_nano_usd)
        if not bill.is_estimated:
            self._estimator.learn(self._size, usage.prompt, usage.completion, answers_to(self._request))

    def _rated(self, usage: Usage | None, state: str) -> int:
        """The tokens that count for rates. Who leaves before the first word has had the prompt worked on."""
        if usage is not None:
            return usage.total
        return self._prompt_tokens if state == "client_gone" and self._attempts else 0

    def _row(self, state: str, bill: "_Bill") -> bytes:
        return orjson.dumps(
            {
                "id": self._caller.request_id,
                "t": round(self._clock.unix(), 6),
                "tenant": self._caller.tenant,
                "key": self._caller.key_id,
                "route": self._chain.name,
                "stream": self._request.stream,
                "state": state,
                "usage": bill.usage,
                "estimated": bill.is_estimated,
                "cost_nano_usd": bill.cost_nano_usd,
                "saved_nano_usd": bill.saved_nano_usd,
                "answered": self._answering,
                "attempts": self._attempts,
            }
        )


class _Bill(NamedTuple):
    """What a client is billed."""

    deployment: Deployment | None
    usage: Usage | None
    is_estimated: bool
    cost_nano_usd: int | None
    saved_nano_usd: int


def draft_of(request: GenerationRequest, caller: Caller, route: str, now_unix_s: float) -> bytes:
    """The row of a request that nobody is there to settle."""
    return orjson.dumps(
        {
            "id": caller.request_id,
            "t": round(now_unix_s, 6),
            "tenant": caller.tenant,
            "key": caller.key_id,
            "route": route,
            "stream": request.stream,
            "state": "lost",
            "usage": None,
            "estimated": False,
            "cost_nano_usd": None,
            "saved_nano_usd": 0,
            "answered": None,
            "attempts": [],
        }
    )


def _never_sent(error: GenkanError) -> bool:
    return isinstance(error, ConnectFailed) or (isinstance(error, TimedOut) and error.phase == "connect")


def _with_cost(payload: bytes, cost_nano_usd: int | None) -> bytes:
    chunk = orjson.loads(payload)
    if type(usage := chunk.get("usage")) is dict:
        usage["cost_usd"] = None if cost_nano_usd is None else cost_nano_usd / 10**9
    try:
        return orjson.dumps(chunk)
    except TypeError:  # nested deeper than can be written
        return payload
