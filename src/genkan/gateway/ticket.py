"""One admitted request, from admission to its row of the ledger.

**What its client is billed**: the tokens of the attempt that answered, as its upstream counted them. If it did not,
because the stream broke off or the client left, what was delivered counts: one token for each piece of the stream that
said something, which is what servers with OpenAI's API send, or for every four bytes of text where that is more, but no
more than the request allowed, and the estimated prompt; the row then says ``estimated``. Who leaves before the first
word is billed the estimated prompt, which has been read by then, unless the request was still waiting to be sent. If no
answer came for another reason nothing is billed. A stream that other attempts went on with is one answer: its client
is billed what it took in all, as if the attempt that began it had ended it. Attempts that did not answer are never the
client's to pay; what their upstreams may take for them stands on their own rows: nothing where they refused, and null,
not known, where the connection broke or took too long.

Who gets a stored answer, or that of another request which was the same, pays nothing for it: it counts as a request and
takes no tokens. Its row says from where it came, and as saved what it had cost.
"""

import re
from typing import Any, NamedTuple, Protocol

import orjson

from genkan.clock import Clock
from genkan.errors import ConnectFailed, GenkanError, RequestError, TimedOut, UpstreamBroken, UpstreamError
from genkan.gateway.arm import Sample
from genkan.gateway.chain import Chain
from genkan.gateway.deployment import Deployment
from genkan.gateway.estimate import Estimator, Size, answers_to
from genkan.gateway.ledger import Ledger
from genkan.gateway.policies import Scarcity, fitted, most_tokens_at_once
from genkan.gateway.reservations import Reservation, Reservations, TimeLeft
from genkan.gateway.rules import NOTHING_AGAINST
from genkan.store.accounts import Amounts, Plan, Settlement
from genkan.upstream.base import Answer, Call
from genkan.wire.answers import text_bytes_of
from genkan.wire.caller import Caller
from genkan.wire.chat import GenerationRequest
from genkan.wire.usage import Usage

Header = tuple[bytes, bytes]
_HAS_USAGE = re.compile(rb'"usage"\s*:\s*\{').search
_NO_USAGE = b'"usage":null}'  # as nearly all chunks of many streams end
_BYTES_PER_TOKEN = 4  # of the text of an answer that came without usage


class TicketObserver(Protocol):
    """Is told what requests took."""

    def billed(self, deployment: str, usage: Usage, cost_nano_usd: int | None, saved_nano_usd: int) -> None:
        """An attempt answered a client."""

    def spared(self, deployment: str, usage: Usage, saved_nano_usd: int) -> None:
        """A client got what the deployment had answered before, or to another."""


class Spared(NamedTuple):
    """An answer that no attempt was made for."""

    tier: str  # where it was found: "exact", "normalised", "alias", "semantic", or "shared" with another request
    deployment: str  # that had given it
    usage: Usage | None  # None: its upstream did not say, or has not yet
    cost_nano_usd: int | None  # as it was given; None: to be found by its price now


class Till(NamedTuple):
    """What all tickets of a worker share."""

    reservations: Reservations
    ledger: Ledger
    observer: TicketObserver
    clock: Clock


class Ticket:
    """Records the attempts of one request, and settles it once. A Recorder."""

    __slots__ = (
        "_answer",
        "_answering",
        "_attempts",
        "_began_s",
        "_caller",
        "_chain",
        "_estimator",
        "_first_token_s",
        "_is_outage",
        "_is_recorded",
        "_is_settled",
        "_may_go_on",
        "_prompt_tokens",
        "_raw_usage",
        "_request",
        "_reservation",
        "_scarcity",
        "_size",
        "_spared",
        "_till",
        "_usage",
        "_whole",
        "headers",
        "is_cut",
        "max_tokens",
        "redis_left",
        "request_id",
        "tenant",
    )

    def __init__(
        self,
        till: Till,
        request: GenerationRequest,
        caller: Caller,
        chain: Chain,
        reservation: Reservation,
        *,
        redis_left: TimeLeft,
        estimator: Estimator,
        size: Size,
        prompt_tokens: int,
        headers: list[Header],
        max_tokens: int | None,
        scarcity: Scarcity,
    ) -> None:
        """``headers`` tell the client of its limits. ``max_tokens`` is set where a budget bounds the answer.

        ``redis_left`` is what the request may still wait for Redis.
        """
        self.request_id, self.tenant = caller.request_id, caller.tenant
        self.headers = headers
        self.is_cut = False  # its chat did not fit as it was
        self.max_tokens = max_tokens
        self.redis_left = redis_left
        self._till = till
        self._request = request
        self._caller = caller
        self._chain = chain
        self._reservation = reservation
        self._scarcity = scarcity
        self._is_recorded = reservation.admission.draft != b""
        self._estimator = estimator
        self._size = size
        self._prompt_tokens = prompt_tokens
        self._attempts: list[_Attempt] = []
        self._raw_usage: dict[str, Any] | None = None  # as it was read last, and what it says
        self._usage: Usage | None = None
        self._answering: _Attempt | None = None  # once it is known whose answer the client gets
        self._whole: _Attempt | None = None  # what it came to with those that went on with it
        self._answer: Answer | None = None
        self._spared: Spared | None = None
        self._is_settled = False
        self._is_outage = False
        self._may_go_on = False  # `answer_ended` says when all is over
        self._began_s = 0.0 if chain.arm is None else till.clock.monotonic()
        self._first_token_s: float | None = None

    # Recorder

    def amounts_within(self, plan: Plan) -> Amounts:
        tokens = self._reservation.admission.amounts.tokens
        return Amounts(1, fitted(tokens, self._prompt_tokens, most_tokens_at_once(plan)))

    def attempt_begun(self, deployment: Deployment, attempt: int, room: Reservation | None) -> Call:
        call = Call(f"{self.request_id}.{attempt}", self._caller.tenant, self._bound_at(deployment))
        self._attempts.append(_Attempt(deployment, room, call))
        if (trace := self._caller.trace) is not None:
            call.traceparent = trace.attempt_begun(call.id, deployment.name)
        if self._is_recorded:
            self._till.ledger.attempt_begun(self.request_id, attempt, deployment.name)
        return call

    def first_token(self, attempt: int) -> None:
        if self._chain.arm is not None and self._first_token_s is None:
            self._first_token_s = self._till.clock.monotonic()

    def goes_on(self, attempt: int, way: str) -> None:
        self._attempts[attempt - 1].way = way

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
        ended = self._attempts[attempt - 1]
        if answer is not None:
            ended.usage, ended.is_estimated = self._usage_of(ended, answer)
        elif state == "hedged" and ended.call.is_sent:  # the prompt has been read by then
            ended.usage, ended.is_estimated = Usage(self._prompt_tokens, 0), True
        ended.cost_nano_usd = _cost(ended.deployment, ended.usage, error)
        ended.seconds = round(seconds, 6)
        self._end(ended, state)
        if may_go_on:
            self._may_go_on = True
        elif ended is self._answering and not self._may_go_on:
            self._settle(state)

    def answer_ended(self, state: str) -> None:
        assert self._answering is not None
        assert self._answer is not None
        whole = _Attempt(self._answering.deployment, None, self._answering.call)
        whole.usage, whole.is_estimated = self._usage_of(whole, self._answer)
        whole.cost_nano_usd = _cost(whole.deployment, whole.usage, None)
        self._whole = whole
        self._settle(state)

    def priced(self, attempt: int, payloads: list[bytes], answer: Answer) -> list[bytes]:
        if not self._request.include_usage:
            return payloads
        cost = _cost(self._attempts[attempt - 1].deployment, self._read(answer), None)
        return [
            payload if payload.endswith(_NO_USAGE) or not _HAS_USAGE(payload) else _with_cost(payload, cost)
            for payload in payloads
        ]

    # the end

    def answered(self, answer: Answer, attempt: int) -> None:
        """The ``attempt``-th is the one whose answer the client gets."""
        self._answering, self._answer = self._attempts[attempt - 1], answer
        if (state := self._answering.state) is not None and not self._may_go_on:
            self._settle(state)

    def spare(self, spared: Spared, state: str = "ok") -> None:
        """The client gets an answer that was there. Does nothing once it is settled."""
        if self._is_settled:
            return
        usage, cost_nano_usd = spared.usage, spared.cost_nano_usd
        if cost_nano_usd is None and usage is not None:
            cost_nano_usd = self._cost_at(spared.deployment, usage)
        self._spared = spared._replace(cost_nano_usd=cost_nano_usd)
        self._settle(state)
        if usage is not None:
            self._till.observer.spared(spared.deployment, usage, cost_nano_usd or 0)

    def failed(self, error: BaseException) -> None:
        """No answer came of it. Does nothing once it is settled."""
        if isinstance(error, RequestError):
            error.headers = (*error.headers, *self.headers)
            self._is_outage = error.status >= 500
            self._settle(error.outcome)
        else:
            self._settle("internal_error" if isinstance(error, Exception) else "client_gone")

    def _cost_at(self, deployment: str, usage: Usage) -> int | None:
        """What it would cost now."""
        return next((_cost(one, usage, None) for one in self._chain.deployments if one.name == deployment), None)

    def _read(self, answer: Answer) -> Usage | None:
        if answer.usage is not self._raw_usage:
            self._raw_usage, self._usage = answer.usage, Usage.read(answer.usage)
        return self._usage

    def _bound_at(self, deployment: Deployment) -> int | None:
        """What we set; a chain's other models may allow longer answers than this one can give."""
        return None if self.max_tokens is None else min(self.max_tokens, deployment.max_output_tokens)

    def _usage_of(self, ended: "_Attempt", answer: Answer) -> tuple[Usage | None, bool]:
        """What its upstream counted, or else what we did; and whether it was us."""
        if (usage := self._read(answer)) is not None:
            return usage, False
        if answer.body is not None:
            tokens = max(1, text_bytes_of(answer.body) // _BYTES_PER_TOKEN)
        elif answer.pieces:
            tokens = max(answer.pieces, answer.text_bytes // _BYTES_PER_TOKEN)
        else:
            return None, False
        most = self._request.sampling.max_tokens  # 0 where a prompt is only echoed
        if most is None:
            most = self._bound_at(ended.deployment)
        if most is not None:
            tokens = min(tokens, answers_to(self._request) * most)
        on = ended.call.continuation
        return Usage(self._prompt_tokens + (0 if on is None else on.tokens), tokens), True

    def _end(self, ended: "_Attempt", state: str) -> None:
        """Note the state, and give back what it holds of its upstream's limits."""
        ended.state = state
        if (trace := self._caller.trace) is not None:
            trace.attempt_ended(ended.call.id, state, ended.usage)
        if not ended.call.is_sent:
            ended.cost_nano_usd = 0
        room, ended.room = ended.room, None
        meter = ended.deployment.meter
        if room is None or meter is None:
            return
        # Who leaves before the first word has had the prompt worked on.
        unread = self._prompt_tokens if state == "client_gone" and ended.call.is_sent else 0
        meter.leave(room, Amounts(1, unread if ended.usage is None else ended.usage.total))

    def _settle(self, state: str) -> None:
        if self._is_settled:
            return
        self._is_settled = True
        for begun in self._attempts:
            if begun.state is None:  # nobody tells of it any more
                self._end(begun, state)
        paid = self._paid(state)
        if self._answer is not None:
            self._answer.cost_nano_usd = 0 if paid is None else paid.cost_nano_usd
        saved_nano_usd = 0 if paid is None else paid.saved_nano_usd()
        self._write(state, paid, saved_nano_usd)
        if self._chain.arm is not None and self._spared is None:
            self._tell_arm(state, paid)
        if paid is not None and (usage := paid.usage) is not None:
            self._till.observer.billed(paid.deployment.name, usage, paid.cost_nano_usd, saved_nano_usd)
            if not paid.is_estimated:
                self._estimator.learn(self._size, usage.prompt, usage.completion, answers_to(self._request))

    def _paid(self, state: str) -> "_Attempt | None":
        """What its client is billed: the attempt that answered, or that it left; None: nothing."""
        if (answering := self._whole or self._answering) is not None and answering.usage is not None:
            return answering
        if state != "client_gone" or not self._attempts:
            return None
        # Of two at once, the second may only have been waiting.
        running = (one for one in self._attempts if one.state == "client_gone" and one.call.is_sent)
        latest = next(running, self._attempts[-1])
        if not latest.call.is_sent:
            return None
        left = _Attempt(latest.deployment, None, latest.call)
        left.usage, left.is_estimated = Usage(self._prompt_tokens, 0), True
        left.cost_nano_usd = _cost(left.deployment, left.usage, None)
        return left

    def _tell_arm(self, state: str, paid: "_Attempt | None") -> None:
        """How it went for the arm, unless its client left, or no attempt was made for reasons of its client's.

        What the arm tries has failed where an attempt at it did, or was refused, where another model answered in its
        place, whatever the reason (a smaller window, say), and where it was passed over and nobody answered.
        """
        arm, tried = self._chain.arm, self._chain.config.chain[0]
        own = [attempt.state for attempt in self._attempts if attempt.deployment.model == tried]
        failed = any(one is not None and one not in NOTHING_AGAINST for one in own)
        is_replaced = state == "ok" and self._answering is not None and self._answering.deployment.model != tried
        has_failed = failed or is_replaced or (not own and self._is_outage)
        if arm is None or not (has_failed or state == "ok"):
            return
        ended_s, first_s = self._till.clock.monotonic(), self._first_token_s
        arm.ended(
            Sample(
                ok=not has_failed,
                seconds=ended_s - self._began_s,
                is_stream=self._request.stream,
                ttft_s=None if first_s is None else first_s - self._began_s,
                cost_nano_usd=None if paid is None else paid.cost_nano_usd,
                tokens=None if paid is None or paid.usage is None else paid.usage.completion,
            )
        )

    def _write(self, state: str, paid: "_Attempt | None", saved_nano_usd: int) -> None:
        """Into the journal, before the client has the end of its answer, and so into the ledger."""
        reservation = self._reservation
        plan, reserved = reservation.admission.plan, reservation.admission.amounts
        if not (self._is_recorded or plan):
            return
        if paid is None or paid.usage is None:
            actual = Amounts(reserved.requests)
        else:
            tokens = paid.usage.total
            actual = Amounts(reserved.requests, tokens, tokens, paid.cost_nano_usd or 0)
        row = self._row(state, paid, saved_nano_usd) if self._is_recorded else b""
        self._till.reservations.settle(
            reservation,
            Settlement(self.request_id, plan, reserved, actual, row, reservation.was_admitted),
            is_urgent=self._scarcity.is_now,
        )

    def _row(self, state: str, paid: "_Attempt | None", saved_nano_usd: int) -> bytes:
        caller, attempts, answering = self._caller, self._attempts, self._answering
        bill = _bill(paid)
        row = {
            "id": self.request_id,
            "t": round(self._till.clock.unix(), 6),
            "tenant": caller.tenant,
            "key": caller.key_id,
            "route": self._chain.name,
            "stream": self._request.stream,
            "state": state,
            **bill,
            "saved_nano_usd": saved_nano_usd,
            "answered": None if answering is None else attempts.index(answering) + 1,
            **({} if self._chain.arm is None else {"arm": self._chain.arm.name}),
            "attempts": [
                {
                    "n": n,
                    "deployment": attempt.deployment.name,
                    "state": attempt.state,
                    **(bill if attempt is paid else _bill(attempt)),
                    "seconds": attempt.seconds,
                    **({} if attempt.way is None else {"way": attempt.way}),
                }
                for n, attempt in enumerate(attempts, 1)
            ],
        }
        if (spared := self._spared) is not None:
            row["usage"] = None if spared.usage is None else _tokens(spared.usage)
            row["saved_nano_usd"] = spared.cost_nano_usd or 0
            row["stored"] = {"tier": spared.tier, "deployment": spared.deployment}
        return orjson.dumps(row)


class _Attempt:
    """One attempt at an upstream."""

    __slots__ = ("call", "cost_nano_usd", "deployment", "is_estimated", "room", "seconds", "state", "usage", "way")

    def __init__(self, deployment: Deployment, room: Reservation | None, call: Call) -> None:
        self.deployment = deployment
        self.call = call
        self.room = room  # what it holds of the deployment's limits
        self.state: str | None = None  # once it has ended
        self.usage: Usage | None = None
        self.is_estimated = False  # counted by us
        self.cost_nano_usd: int | None = None
        self.seconds = 0.0
        self.way: str | None = None  # in which it went on with an answer that another began

    def saved_nano_usd(self) -> int:
        """What the upstream's own cache saved."""
        price = self.deployment.price
        return 0 if price is None or self.usage is None else price.saved_nano_usd(self.usage)


_NOTHING: dict[str, Any] = {"usage": None, "estimated": False, "cost_nano_usd": 0}


def draft_of(caller: Caller, route: str, now_unix_s: float, *, stream: bool) -> bytes:
    """The row of a request that nobody is there to settle."""
    return orjson.dumps(
        {
            "id": caller.request_id,
            "t": round(now_unix_s, 6),
            "tenant": caller.tenant,
            "key": caller.key_id,
            "route": route,
            "stream": stream,
            "state": "lost",
            "usage": None,
            "estimated": False,
            "cost_nano_usd": None,
            "saved_nano_usd": 0,
            "answered": None,
            "attempts": [],
        }
    )


def _bill(paid: _Attempt | None) -> dict[str, Any]:
    """As rows have it."""
    if paid is None:
        return _NOTHING
    if (usage := paid.usage) is None:
        return {"usage": None, "estimated": False, "cost_nano_usd": paid.cost_nano_usd}
    return {"usage": _tokens(usage), "estimated": paid.is_estimated, "cost_nano_usd": paid.cost_nano_usd}


def _tokens(usage: Usage) -> dict[str, int]:
    return {
        "prompt": usage.prompt,
        "completion": usage.completion,
        "cached": usage.cached,
        "cache_write": usage.cache_write,
    }


def _cost(deployment: Deployment, usage: Usage | None, error: UpstreamError | None) -> int | None:
    """What an attempt takes from us; None if it is not known."""
    if usage is not None:
        return None if deployment.price is None else deployment.price.nano_usd(usage)
    is_unknown = error is None or (isinstance(error, TimedOut | UpstreamBroken) and not _never_sent(error))
    return None if is_unknown else 0


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
