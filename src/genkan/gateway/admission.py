"""May this request be worked on? One round trip to Redis draws on every limit and budget that applies, or on none."""

import math
from typing import Protocol

from genkan.clock import Clock
from genkan.errors import BudgetSpent, InvalidRequest, RateLimited, RequestError
from genkan.gateway.chain import Chain
from genkan.gateway.estimate import Estimator, Size, most_prompt_tokens, size_of
from genkan.gateway.ledger import Ledger
from genkan.gateway.policies import Policies, Policy
from genkan.gateway.rate_headers import rate_headers
from genkan.gateway.reservations import Reservations, TimeLeft
from genkan.gateway.ticket import Header, Ticket, TicketObserver, draft_of
from genkan.store.accounts import Admission, Amounts, Decision, Line, Unit
from genkan.wire.caller import Caller
from genkan.wire.chat import GenerationRequest

_LEASE_RETRY_S = 1.0
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
        """``request_s`` is what a request may wait for Redis. Without a ledger, only limits and budgets are kept."""
        self._policies = policies
        self._reservations = reservations
        self._ledger = ledger
        self._observer = observer
        self._clock = clock
        self._request_s = request_s
        self._keeps_ledger = keeps_ledger
        self._estimators: dict[str, Estimator] = {}

    async def admit(self, request: GenerationRequest, caller: Caller, chain: Chain) -> Ticket:
        """A ticket, which the caller must settle: by `Ticket.answered` or `Ticket.failed`.

        Raises RateLimited, BudgetSpent, InvalidRequest for what can never fit, AccountsUnavailable.
        """
        now_s = self._clock.unix()
        policy = self._policies.of(caller, chain.name, now_s)
        estimator = self._estimators.get(chain.name)
        if estimator is None:
            estimator = self._estimators[chain.name] = Estimator()
        size = size_of(request)
        prompt_tokens = estimator.prompt_tokens(size)
        amounts, max_tokens = _amounts(request, chain, policy, estimator, size, prompt_tokens)
        draft = draft_of(request, caller, chain.name, now_s) if self._keeps_ledger else b""
        admission = Admission(caller.request_id, policy.plan, amounts, draft)
        reservation = await self._reservations.take(admission, TimeLeft(self._request_s))
        decision = reservation.decision
        if decision.denied is not None:
            raise self._refusal(decision.denied, decision, policy, amounts)
        if decision.is_local:
            self._observer.admitted_locally()
        return Ticket(
            request=request,
            caller=caller,
            chain=chain,
            reservation=reservation,
            reservations=self._reservations,
            ledger=self._ledger,
            estimator=estimator,
            size=size,
            prompt_tokens=prompt_tokens,
            headers=self._headers(policy, decision),
            max_tokens=max_tokens,
            observer=self._observer,
            clock=self._clock,
        )

    def _headers(self, policy: Policy, decision: Decision) -> list[Header]:
        headers = rate_headers(policy.plan, decision.states)
        if len(decision.states) == len(policy.plan):
            for warn in policy.warnings:
                if decision.states[warn.line].remaining < warn.below:
                    headers.append((b"x-genkan-budget-warning", warn.text.encode()))
                    self._observer.budget_is_low(SCOPES[policy.plan[warn.line].key[0]])
        return headers

    def _refusal(self, denied: Line, decision: Decision, policy: Policy, amounts: Amounts) -> RequestError:
        place = next((place for place, line in enumerate(policy.plan) if line is denied), 0)
        retry_s = max((state.retry_s for state in decision.states if not math.isinf(state.retry_s)), default=0.0)
        self._observer.denied(denied.kind, denied.unit.name.lower(), SCOPES[denied.key[0]])
        error = _refused(denied, amounts[denied.unit], decision.states[place].retry_s, retry_s)
        error.headers = tuple(rate_headers(policy.plan, decision.states))
        return error


def _amounts(
    request: GenerationRequest, chain: Chain, policy: Policy, estimator: Estimator, size: Size, prompt_tokens: int
) -> tuple[Amounts, int | None]:
    """What to draw, and the bound to set on an answer whose client set none; None if there is no need for one."""
    asked = request.sampling
    tokens = prompt_tokens + estimator.answer_tokens(asked.max_tokens, asked.n)
    if not policy.has_budgets:
        return Amounts(1, tokens), None
    most_output = asked.max_tokens if asked.max_tokens is not None else chain.max_output_tokens
    # ``best_of`` generates more answers than are shown.
    best_of = request.raw.get("best_of")
    choices = max(asked.n, best_of if type(best_of) is int else 1)
    most_prompt = most_prompt_tokens(size)
    most_usd = max(
        (one.price.most_nano_usd(most_prompt, choices * most_output) for one in chain.deployments if one.price),
        default=0,
    )
    return Amounts(
        1, tokens, most_prompt + choices * most_output, most_usd
    ), most_output if asked.max_tokens is None else None


def _refused(line: Line, asked: int, never_s: float, retry_s: float) -> RequestError:
    if line.kind == "budget":
        return BudgetSpent(
            f"What is left of the budget of {line.scope} does not cover this request, which may take up to "
            f"{_money(asked) if line.unit is Unit.BUDGET_NANO_USD else f'{asked} tokens'}."
        )
    if line.kind == "lease":
        message = f"The {line.scope} has its limit of {line.limit} concurrent requests in work."
        return RateLimited(message, unit="requests", retry_after_s=max(retry_s, _LEASE_RETRY_S))
    what = _WHAT[line.unit]
    if math.isinf(never_s):
        at_once = line.burst if line.kind == "bucket" else line.limit
        error = InvalidRequest(
            f"This request takes about {asked} {what}, and the limit of the {line.scope} is {at_once} at once: it can "
            "never fit. Shorten the prompt or lower max_tokens.",
            param="max_tokens",
        )
        error.code, error.should_retry = "request_exceeds_limit", False
        return error
    message = (
        f"Rate limit reached for the {line.scope}: {line.limit} {what} per {line.window_s:g} s, this request takes "
        f"{asked}. Please try again in {retry_s:.3g} s."
    )
    return RateLimited(message, unit="tokens" if line.unit is Unit.TOKENS else "requests", retry_after_s=retry_s)


def _money(nano_usd: int) -> str:
    return f"${nano_usd / _NANO:.6f}"
