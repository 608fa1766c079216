"""May this request be worked on? One round trip to Redis draws on every limit and budget that applies, or on none."""

import math
from collections.abc import Sequence
from typing import Protocol

from genkan.clock import Clock
from genkan.errors import BudgetSpent, InvalidRequest, RateLimited, RequestError
from genkan.gateway.chain import Chain
from genkan.gateway.embedding_model import EmbeddingModel
from genkan.gateway.embedding_ticket import EmbeddingTicket
from genkan.gateway.estimate import Estimator, Size, answers_to, most_answers_to, most_prompt_tokens, size_of
from genkan.gateway.ledger import Ledger
from genkan.gateway.policies import Policies, Policy, fitted
from genkan.gateway.rate_headers import duration, rate_headers
from genkan.gateway.reservations import NOTHING_TAKEN, Reservation, Reservations, TimeLeft
from genkan.gateway.ticket import Header, Ticket, TicketObserver, Till, draft_of
from genkan.store.accounts import Admission, Amounts, Decision, Line, Unit
from genkan.wire.caller import Caller
from genkan.wire.chat import GenerationRequest, refuse_other_models

_LEASE_RETRY_S = 1.0  # nobody knows when another request ends
_NANO = 10**9
#: What a line's key begins with.
SCOPES = {"k": "key", "t": "tenant", "m": "model", "r": "route", "d": "deployment"}
_WHAT = {Unit.REQUESTS: "requests", Unit.TOKENS: "tokens"}


class AdmissionObserver(TicketObserver, Protocol):
    """Is told what became of requests at the door."""

    def denied(self, kind: str, unit: str, scope: str) -> None:
        """A limit or a budget had too little left."""

    def admitted_locally(self) -> None:
        """Redis was lost, and a request was let in without it."""

    def budget_is_low(self, scope: str) -> None:
        """An answer carries a warning."""


class Admissions:
    """Lets requests in."""

    def __init__(
        self,
        policies: Policies,
        reservations: Reservations,
        ledger: Ledger,
        observer: AdmissionObserver,
        clock: Clock,
        *,
        request_s: float,
        keeps_ledger: bool,
    ) -> None:
        """``request_s`` is what a request may wait for Redis.

        Without a ledger, no requests are recorded but those that a budget applies to.
        """
        self._policies = policies
        self._till = Till(reservations, ledger, observer, clock)
        self._observer = observer
        self._request_s = request_s
        self._keeps_ledger = keeps_ledger
        self._estimators: dict[str, Estimator] = {}

    async def admit(self, request: GenerationRequest, caller: Caller, chain: Chain) -> Ticket:
        """A ticket, which the caller must settle: by `Ticket.answered` or `Ticket.failed`.

        Raises RateLimited, BudgetSpent, InvalidRequest for what can never fit, AccountsUnavailable.
        """
        now_s = self._till.clock.unix()
        policy = self._policies.of(caller, chain.name, now_s)
        if policy.has_budgets or caller.models is not None:
            refuse_other_models(request)
        estimator = self._estimators.get(chain.name) or self.estimator_of(chain.name)
        size = size_of(request)
        prompt_tokens = estimator.prompt_tokens(size)
        amounts, max_tokens = _amounts(request, chain, policy, estimator, size, prompt_tokens)
        # Without a draft it can not be known for certain what was reserved, and budgets must know.
        is_recorded = self._keeps_ledger or policy.has_budgets
        draft = draft_of(caller, chain.name, now_s, stream=request.stream) if is_recorded else b""
        left = TimeLeft(self._request_s)
        reservation, headers = await self._taken(
            Admission(caller.request_id, policy.plan, amounts, draft), policy, left
        )
        if chain.arm is not None:
            headers.append((b"x-genkan-arm", chain.arm.name.encode()))
        return Ticket(
            self._till,
            request,
            caller,
            chain,
            reservation,
            redis_left=left,
            estimator=estimator,
            size=size,
            prompt_tokens=prompt_tokens,
            headers=headers,
            max_tokens=max_tokens,
            scarcity=policy.scarcity,
        )

    def estimator_of(self, route: str) -> Estimator:
        """What is learnt of a route's tokens."""
        estimator = self._estimators.get(route)
        if estimator is None:
            estimator = self._estimators[route] = Estimator()
        return estimator

    async def admit_texts(self, texts: Sequence[str], caller: Caller, model: EmbeddingModel) -> EmbeddingTicket:
        """A ticket for embeddings, which the caller must settle as well. Raises the same."""
        now_s = self._till.clock.unix()
        policy = self._policies.of(caller, model.name, now_s)
        size = model.size_of(texts)
        draft = b""
        if self._keeps_ledger or policy.has_budgets:
            draft = draft_of(caller, model.name, now_s, stream=False)
        admission = Admission(caller.request_id, policy.plan, model.amounts(size), draft)
        try:
            reservation, headers = await self._taken(admission, policy, TimeLeft(self._request_s))
        except InvalidRequest as error:
            error.param = "input"
            raise
        return EmbeddingTicket(
            self._till, caller, model, reservation, size=size, headers=headers, scarcity=policy.scarcity
        )

    async def _taken(self, admission: Admission, policy: Policy, left: TimeLeft) -> tuple[Reservation, list[Header]]:
        """What was taken, and what the client is told of its limits. Raises what it gets instead of an answer."""
        if not admission.plan and not admission.draft:
            return Reservation(admission, NOTHING_TAKEN, was_sent=False), []
        reservation = await self._till.reservations.take(admission, left)
        return reservation, self._told(policy, admission.amounts, reservation.decision)

    def _told(self, policy: Policy, amounts: Amounts, decision: Decision) -> list[Header]:
        """What the client is told of its limits. Raises what it gets instead of an answer."""
        policy.note(decision.states)
        if decision.denied is not None:
            raise self._refusal(decision.denied, decision, policy, amounts)
        if decision.is_local:
            self._observer.admitted_locally()
        return self._headers(policy, decision)

    def _headers(self, policy: Policy, decision: Decision) -> list[Header]:
        headers = rate_headers(policy.plan, decision.states)
        if policy.warnings and len(decision.states) == len(policy.plan):
            for warn in policy.warnings:
                if decision.states[warn.line].remaining <= warn.at_most:
                    headers.append((b"x-genkan-budget-warning", warn.text.encode()))
                    self._observer.budget_is_low(SCOPES[policy.plan[warn.line].key[0]])
        return headers

    def _refusal(self, denied: Line, decision: Decision, policy: Policy, amounts: Amounts) -> RequestError:
        asked = policy.without_budgets if decision.is_local else policy.plan
        never = [
            line
            for line, state in zip(asked, decision.states, strict=True)
            if math.isinf(state.retry_s) and line.kind != "budget"
        ]
        retry_s = max((state.retry_s for state in decision.states if not math.isinf(state.retry_s)), default=0.0)
        self._observer.denied(denied.kind, denied.unit.name.lower(), SCOPES[denied.key[0]])
        # What can never fit is said at once, and not after a wait for what another limit lacks now.
        error = _never_fits(never[0], amounts) if never else _refused(denied, amounts[denied.unit], retry_s)
        error.headers = tuple(rate_headers(policy.plan, decision.states))
        return error


def _amounts(
    request: GenerationRequest, chain: Chain, policy: Policy, estimator: Estimator, size: Size, prompt_tokens: int
) -> tuple[Amounts, int | None]:
    """What to draw, and the bound to set on an answer whose client set none; None if there is no need for one."""
    asked = request.sampling
    guess = prompt_tokens + estimator.answer_tokens(asked.max_tokens, answers_to(request))
    tokens = fitted(guess, prompt_tokens, policy.most_tokens)
    if not policy.has_budgets:
        return Amounts(1, tokens), None
    most_output = asked.max_tokens if asked.max_tokens is not None else chain.max_output_tokens
    most_prompt, most_answers = most_prompt_tokens(size), most_answers_to(request) * most_output
    prices = (one.price for one in chain.deployments if one.price is not None)
    most_usd = max((price.most_nano_usd(most_prompt, most_answers) for price in prices), default=0)
    amounts = Amounts(1, tokens, most_prompt + most_answers, most_usd)
    return amounts, most_output if asked.max_tokens is None else None


def _never_fits(line: Line, amounts: Amounts) -> RequestError:
    at_once = line.burst if line.kind == "bucket" else line.limit
    what = _WHAT[line.unit]
    error = InvalidRequest(
        f"This request takes about {amounts[line.unit]} {what}, and the limit of the {line.scope} is {at_once} at "
        "once: it can never fit. Shorten the prompt.",
        param="max_tokens",
    )
    error.code, error.should_retry = "request_exceeds_limit", False
    return error


def _refused(line: Line, asked: int, retry_s: float) -> RequestError:
    if line.kind == "budget":
        return BudgetSpent(
            f"What is left of the budget of {line.scope} does not cover this request, which may take up to "
            f"{_money(asked) if line.unit is Unit.BUDGET_NANO_USD else f'{asked} tokens'}."
        )
    if line.kind == "lease":
        message = f"The {line.scope} has its limit of {line.limit} concurrent requests in work."
        return RateLimited(message, unit="requests", retry_after_s=_LEASE_RETRY_S)
    message = (
        f"Rate limit reached for the {line.scope}: {line.limit} {_WHAT[line.unit]} per {line.window_s:g} s, this "
        f"request takes {asked}. Please try again in {duration(retry_s)}."
    )
    return RateLimited(message, unit="tokens" if line.unit is Unit.TOKENS else "requests", retry_after_s=retry_s)


def _money(nano_usd: int) -> str:
    return f"${nano_usd / _NANO:.6f}"
