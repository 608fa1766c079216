"""One request through the gateway. The only file that knows the order of the steps.

find the model's or the route's chain → admit → have it answered → name who answered, and what it cost → settle.
"""

from genkan.errors import ModelNotFound, UnsupportedOption
from genkan.gateway.admission import Admissions
from genkan.gateway.deployment import Deployment
from genkan.gateway.fallback import Fallback
from genkan.gateway.router import Router
from genkan.upstream.base import Answer
from genkan.wire.caller import NOBODY, Caller
from genkan.wire.chat import GenerationRequest

Header = tuple[bytes, bytes]


class Pipeline:
    """Answers requests by way of the configured upstreams. A Responder."""

    def __init__(self, router: Router, fallback: Fallback, admissions: Admissions) -> None:
        self._router = router
        self._fallback = fallback
        self._admissions = admissions
        self._headers: dict[str, list[Header]] = {}

    async def respond(self, request: GenerationRequest, caller: Caller = NOBODY) -> Answer:
        """See Responder. Raises ModelNotFound for a name that is neither a model nor a route, or not the caller's."""
        if request.extras.cache == "only":
            raise UnsupportedOption("genkan.cache", "no answers are stored, so none can come from there only")
        if not caller.may_use(request.model):
            raise ModelNotFound(request.model)
        chain = self._router.resolve(request.model)
        ticket = await self._admissions.admit(request, caller, chain)
        try:
            answer, walk = await self._fallback.respond(chain, request, ticket)
        except BaseException as error:
            ticket.failed(error)
            raise
        ticket.answered(answer, walk.answering)
        deployment = walk.answered_by
        assert deployment is not None  # an answer comes from somewhere
        answer.fields = {"model": deployment.model, "upstream": deployment.upstream.name, "attempts": walk.attempts}
        answer.headers = [
            *self._names(deployment),
            (b"x-genkan-attempts", b"%d" % walk.attempts),
            *ticket.headers,
        ]
        if (cost := answer.cost_nano_usd) is not None:
            answer.headers.append((b"x-genkan-cost-usd", f"{cost // 10**9}.{cost % 10**9:09d}".encode()))
        if (reason := walk.fell_back_because) is not None:
            answer.fields["fallback"] = reason
            answer.headers.append((b"x-genkan-fallback", reason.encode()))
        return answer

    def _names(self, deployment: Deployment) -> list[Header]:
        headers = self._headers.get(deployment.name)
        if headers is None:
            headers = self._headers[deployment.name] = [
                (b"x-genkan-model", deployment.model.encode()),
                (b"x-genkan-upstream", deployment.upstream.name.encode()),
                (b"x-genkan-cache", b"bypass"),
            ]
        return headers
