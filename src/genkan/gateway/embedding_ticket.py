"""One admitted request for embeddings, from admission to its row of the ledger.

Its client is billed the tokens of its texts, as the embedder counted them. Who leaves before they are there is billed
the estimate, as anyone is who leaves before the first word of an answer; if an error came instead nothing is billed.
"""

from typing import Any

import orjson

from genkan.errors import RequestError, TimedOut, UpstreamBroken
from genkan.gateway.embedding_model import EmbeddingModel
from genkan.gateway.estimate import Size
from genkan.gateway.policies import Scarcity
from genkan.gateway.reservations import Reservation
from genkan.gateway.ticket import Header, Till
from genkan.store.accounts import Amounts, Settlement
from genkan.wire.caller import Caller
from genkan.wire.usage import Usage


class EmbeddingTicket:
    """Records the one attempt, and settles the request once."""

    __slots__ = (
        "_began_s",
        "_caller",
        "_is_settled",
        "_model",
        "_reservation",
        "_scarcity",
        "_size",
        "_till",
        "headers",
    )

    def __init__(
        self,
        till: Till,
        caller: Caller,
        model: EmbeddingModel,
        reservation: Reservation,
        *,
        size: Size,
        headers: list[Header],
        scarcity: Scarcity,
    ) -> None:
        """``headers`` tell the client of its limits."""
        self.headers = headers
        self._till = till
        self._caller = caller
        self._model = model
        self._reservation = reservation
        self._scarcity = scarcity
        self._size = size
        self._began_s = till.clock.monotonic()
        self._is_settled = False

    def begun(self) -> None:
        """The embedder is about to be asked."""
        if self._reservation.admission.draft:
            self._till.ledger.attempt_begun(self._caller.request_id, 1, self._model.deployment)

    def answered(self, tokens: int) -> int | None:
        """The texts had so many tokens. Returns what that costs in billionths of a dollar; None if it is not known."""
        usage = Usage(tokens, 0)
        cost_nano_usd = self._cost(usage)
        self._settle("ok", _bill(usage, cost_nano_usd), usage, cost_nano_usd)
        self._model.estimator.learn(self._size, tokens, 0, 1)
        return cost_nano_usd

    def failed(self, error: BaseException) -> None:
        """No vectors came of it. Does nothing once it is settled."""
        if isinstance(error, RequestError):
            error.headers = (*error.headers, *self.headers)
            taken = None if isinstance(error, TimedOut | UpstreamBroken) else 0
            self._settle(error.outcome, _bill(None, taken), None, 0)
        elif isinstance(error, Exception):
            self._settle("internal_error", _bill(None, None), None, 0)
        else:
            usage = Usage(self._reservation.admission.amounts.tokens, 0)
            cost_nano_usd = self._cost(usage)
            self._settle("client_gone", _bill(usage, cost_nano_usd, estimated=True), usage, cost_nano_usd)

    def _cost(self, usage: Usage) -> int | None:
        return None if self._model.price is None else self._model.price.nano_usd(usage)

    def _settle(self, state: str, attempt: dict[str, Any], usage: Usage | None, cost_nano_usd: int | None) -> None:
        """``attempt`` is what it took from us, ``usage`` and cost are what its client is billed."""
        if self._is_settled:
            return
        self._is_settled = True
        admission = self._reservation.admission
        if usage is not None:
            self._till.observer.billed(self._model.deployment, usage, cost_nano_usd, 0)
        if not (admission.plan or admission.draft):
            return
        tokens = 0 if usage is None else usage.total
        actual = Amounts(admission.amounts.requests, tokens, tokens, cost_nano_usd or 0)
        row = b""
        if admission.draft:
            row = self._row(state, attempt, attempt if usage is not None else _bill(None, 0))
        settlement = Settlement(
            admission.request_id, admission.plan, admission.amounts, actual, row, self._reservation.was_admitted
        )
        self._till.reservations.settle(self._reservation, settlement, is_urgent=self._scarcity.is_now)

    def _row(self, state: str, attempt: dict[str, Any], bill: dict[str, Any]) -> bytes:
        seconds = round(self._till.clock.monotonic() - self._began_s, 6)
        return orjson.dumps(
            {
                "id": self._caller.request_id,
                "t": round(self._till.clock.unix(), 6),
                "tenant": self._caller.tenant,
                "key": self._caller.key_id,
                "route": self._model.name,
                "stream": False,
                "state": state,
                **bill,
                "saved_nano_usd": 0,
                "answered": 1 if state == "ok" else None,
                "attempts": [
                    {"n": 1, "deployment": self._model.deployment, "state": state, **attempt, "seconds": seconds}
                ],
            }
        )


def _bill(usage: Usage | None, cost_nano_usd: int | None, *, estimated: bool = False) -> dict[str, Any]:
    """As rows have it."""
    tokens = None if usage is None else {"prompt": usage.prompt, "completion": 0, "cached": 0, "cache_write": 0}
    return {"usage": tokens, "estimated": estimated, "cost_nano_usd": cost_nano_usd}
